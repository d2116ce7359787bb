"""Promotion and rollback, struck at every system call that touches the store.

strace counts the calls of a real process, then kills it at each, or lets each fail.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from storage.errors import ModelStoreError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore

PROJECT = Path(__file__).parents[3]
CALLS = "trace=%file,%desc"
ERRORS = ("EIO", "ENOSPC", "EROFS")
PROMOTE = """
import sys
from pathlib import Path
from storage.errors import ModelStoreError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
models, run, digest = sys.argv[1:4]
store = ModelStore(LocalFolder(Path(models)), "mnist", keep_versions=1)
try:
    print(store.promote(run, digest, store.champion(), actor="test", reason=""))
except ModelStoreError as error:
    sys.exit(str(error))
"""
ROLLBACK = """
import sys
from pathlib import Path
import storage.models.classifier  # its imports are not what is struck
import ai_edge_litert.interpreter
from storage.errors import ModelStoreError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
store = ModelStore(LocalFolder(Path(sys.argv[1])), "mnist", keep_versions=1)
try:
    print(store.rollback(None, actor="test", reason=""))
except ModelStoreError as error:
    sys.exit(str(error))
"""


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    """strace, allowed to trace; `.ci/run` installs it."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(["strace", "-e", "trace=none", "true"], check=False, capture_output=True)
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode().strip()}")


def promote(store: ModelStore, tiny_model, run: str, **facts) -> None:
    digest = store.stage(run, tiny_model, {"weights_digest": run, **facts})
    assert store.promote(run, digest, store.champion(), actor="test", reason="")


@pytest.fixture
def before(tmp_path: Path, tiny_model) -> Path:
    """A store with a champion, predecessors, and the candidate run-9; each strike gets a copy."""
    models = tmp_path / "before"
    store = ModelStore(LocalFolder(models), "mnist", keep_versions=1)
    for number in range(3):
        promote(store, tiny_model, f"run-{number}", test_correct=number, test_total=10)
    digest = store.stage("run-9", tiny_model, {"weights_digest": "run-9"})
    (tmp_path / "digest").write_text(digest)
    return models


@pytest.fixture
def first(tmp_path: Path, tiny_model) -> Path:
    """A store with the candidate run-9 and no champion yet."""
    digest = ModelStore(LocalFolder(tmp_path / "before"), "mnist").stage("run-9", tiny_model, {})
    (tmp_path / "digest").write_text(digest)
    return tmp_path / "before"


def struck(program: str, before: Path, strike: str | None) -> tuple[Path, int, str, list[str]]:
    """Run the program on a copy of the store; a strike is what strace's inject does."""
    folder = before.parent
    models = folder / "models"
    shutil.rmtree(models, ignore_errors=True)
    shutil.copytree(before, models)
    trace = folder / "trace"
    inject = ["-e", f"inject={strike}"] if strike else []
    done = subprocess.run(
        ["strace", "-y", "-s", "0", "-o", str(trace), "-e", CALLS, *inject,
         sys.executable, "-B", "-c", program, str(models), "run-9",
         (folder / "digest").read_text()],
        # Nothing but the program itself: measuring coverage would add calls of its own.
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
            "PYTHONPATH": str(PROJECT),
            "PYTHONHASHSEED": "0",
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    lines = [line for line in trace.read_text().splitlines() if re.match(r"\w+\(", line)]
    return models, done.returncode, done.stderr.strip(), lines


def touches(lines: list[str], models: Path) -> dict[tuple[str, int], str]:
    """The calls that touch the store; all others are Python's own.

    By name and how many of that name came until then, from 1: so strace counts.
    """
    counts: Counter[str] = Counter()
    found = {}
    for line in lines:
        name = line.partition("(")[0]
        counts[name] += 1
        if str(models / "mnist") in line:
            found[name, counts[name]] = line
    return found


def missed(lines: list[str], models: Path) -> bool:
    """The error struck a call of Python's own: their number differs now and then.

    For example, an import lists a folder on sys.path again after a file was created there.
    """
    return any("(INJECTED)" in line and str(models / "mnist") not in line for line in lines)


def swapped(lines: list[str]) -> bool:
    """The traced process moved a new champion.json into place: from then on the new one counts."""
    return any(re.match(r'rename.*/champion\.json"\) += 0$', line) for line in lines)


def check_whole(models: Path, allowed: set[str | None]) -> str | None:
    """The store can be read, and its champion is one of those; which one comes back."""
    store = ModelStore(LocalFolder(models), "mnist", keep_versions=1)
    champion = store.read_champion()
    name = champion[0].version if champion else None
    assert name in allowed
    history = store.history().swaps
    assert [swap.generation for swap in history] == list(range(1, len(history) + 1))
    assert (history[-1].version if history else None) == name
    return name


@pytest.fixture
def released(before: Path) -> Path:
    """The same store as a release without states wrote it."""
    folder = before / "mnist"
    (state,) = (folder / "states").glob("00000003-*")
    swaps = json.loads(state.read_text())["swaps"]
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(swap)}\n" for swap in swaps))
    pointer = json.loads((folder / "champion.json").read_text())
    del pointer["state"]
    (folder / "champion.json").write_text(json.dumps(pointer))
    shutil.rmtree(folder / "states")
    return before


CASES = [
    pytest.param(PROMOTE, "before", "run-2", "run-9", id="promotion"),
    pytest.param(PROMOTE, "first", None, "run-9", id="first promotion"),
    pytest.param(ROLLBACK, "before", "run-2", "run-1", id="rollback"),
    pytest.param(PROMOTE, "released", "run-2", "run-9", id="promotion over an old store"),
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("program", "start", "old", "new"), CASES)
def test_killed_at_any_call_it_leaves_the_old_champion_or_the_new_one_complete(
    program, start, old, new, request, tiny_model
):
    before = request.getfixturevalue(start)
    models, code, said, lines = struck(program, before, None)
    assert code == 0, said
    assert check_whole(models, {new}) == new
    calls = list(touches(lines, models).items())
    found = set()

    for position in range(len(calls)):
        # Python's own calls differ in number now and then: the strike may come too late. It is
        # repeated with the number that the call had in that run.
        for _ in range(10):
            (name, number), line = calls[position]
            strike = f"{name}:signal=SIGKILL:when={number}"
            models, code, _, lines = struck(program, before, strike)
            if code != 0:
                break
            calls = list(touches(lines, models).items())
        assert code != 0, f"it was to be killed at {line}"
        found.add(check_whole(models, {new} if swapped(lines) else {old}))
        # The next run finds nothing in the way; recovery leaves nothing behind.
        store = ModelStore(LocalFolder(models), "mnist", keep_versions=1)
        promote(store, tiny_model, "run-10")
        check_whole(models, {"run-10"})
        store.give_up("run-9")
        store.discard("run-9")
        assert not list(store.folder.rglob("*.new"))
        assert not (store.folder / "history.jsonl").exists()
        assert not list((store.folder / "staging").iterdir())
        there = {path.name for path in (store.folder / "versions").iterdir()}
        assert there == set(store.kept()) == store.history().kept(1), line

    assert found == {old, new}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("program", "start", "old", "new"), CASES)
def test_if_any_system_call_fails_the_champion_still_loads_and_one_line_says_why(
    program, start, old, new, request
):
    before = request.getfixturevalue(start)
    models, _, _, lines = struck(program, before, None)
    calls = touches(lines, models)
    refused = 0

    # The code treats the three alike; one for each call is enough.
    for ((call, number), line), error in zip(calls.items(), itertools.cycle(ERRORS)):
        if call == "close":
            continue  # Python's own: its failure says nothing about what was written
        strike = f"{call}:error={error}:when={number}"
        for _ in range(10):
            models, code, said, lines = struck(program, before, strike)
            if not missed(lines, models):
                break
        name = check_whole(models, {old, new})
        assert "Traceback" not in said, f"{line}\n{said}"
        if code:
            refused += 1
            assert "\n" not in said
            assert re.search(r"cannot be used|expected", said), said
        else:
            assert name == new

    assert refused > len(calls) / 4
    print(f"an error at each of {len(calls)} calls: {refused} refused in one line")


def test_the_tiny_model_is_a_version_that_can_be_rolled_back_to(before):
    store = ModelStore(LocalFolder(before), "mnist")
    store.rollback("run-1", actor="test", reason="tried")
    with pytest.raises(ModelStoreError):
        store.rollback("run-0", actor="test", reason="it was pruned")
    assert json.loads((before / "mnist/champion.json").read_text())["version"] == "run-1"
