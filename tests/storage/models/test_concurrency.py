"""Many promotions, rollbacks and readers at once, in processes of their own."""

import itertools
import json
from pathlib import Path

import pytest

from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from storage.records import SwapKind

PREPARE = """
import json, random
from pathlib import Path
from storage.errors import VersionNotFoundError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
import ai_edge_litert.interpreter
models, who, tiny = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
files = {path.name: path.read_bytes() for path in tiny.iterdir()}

def write(folder):
    for name, content in files.items():
        (folder / name).write_bytes(content)

def quality(store, pointer):
    manifest = store.version(pointer.version) / "manifest.json"
    return json.loads(manifest.read_text())["test_correct"]
"""
# Each promoter compares with the champion that it saw, as the gate does, and again if it moved.
HISTORIES = """
chance = random.Random(who)
for number in range(int(sys.argv[4])):
    store = ModelStore(LocalFolder(models), f"history-{number}")
    for step in range(2):
        if chance.random() < 0.25:
            try:
                store.rollback(None, actor=who, reason="")
            except VersionNotFoundError:
                pass
            continue
        run = f"{who}-{step}"
        mine = chance.randrange(1000)
        digest = store.stage(run, write, {"test_correct": mine, "test_total": 1000})
        while True:
            seen = store.champion()
            if seen and mine < quality(store, seen):
                store.discard(run)
                break
            if store.promote(run, digest, seen, actor=who, reason=""):
                break
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_model) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model(folder)
    return folder


def quality(store: ModelStore, version: str) -> int:
    manifest = store.version(version) / "manifest.json"
    return int(json.loads(manifest.read_text())["test_correct"])


@pytest.mark.parametrize("histories", [5, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_promotions_and_rollbacks_at_once_are_one_sequence_and_the_worse_never_wins(
    histories, tmp_path, tiny, at_once
):
    at_once(PREPARE, HISTORIES, [[tmp_path, f"p{n}", tiny, histories] for n in range(4)])

    swaps = 0
    for number in range(histories):
        store = ModelStore(LocalFolder(tmp_path), f"history-{number}")
        history = store.history().swaps
        assert [swap.generation for swap in history] == list(range(1, len(history) + 1))
        for before, swap in itertools.pairwise(history):
            assert swap.predecessor == before.version
            if swap.kind is SwapKind.PROMOTION:
                assert quality(store, swap.version) >= quality(store, before.version), number
        if history:
            champion = store.read_champion()
            assert champion
            assert champion[0] == history[-1].pointer
        assert not list((store.folder / "staging").glob("*"))
        swaps += len(history)
    assert swaps > histories
    print(f"{histories} histories, {swaps} swaps")


WRITER = """
store = ModelStore(LocalFolder(models), "mnist", keep_versions=1)
if who == "writer":
    for number in range(int(sys.argv[4])):
        files["model.tflite"] = str(number).encode() * 2000
        files["golden.npz"] = str(number).encode() * 20
        digest = store.stage(f"run-{number}", write, {"number": number})
        assert store.promote(f"run-{number}", digest, store.champion(), actor="", reason="")
    print(0)
else:
    reads, generation = 0, 0
    while generation < int(sys.argv[4]) or reads < int(sys.argv[5]):
        champion = store.read_champion()
        if champion is None:
            continue
        pointer, version = champion
        number = str(version.manifest["number"]).encode()
        assert version.name == pointer.version == f"run-{number.decode()}"
        assert version.files["model.tflite"] == number * 2000
        assert version.files["golden.npz"] == number * 20
        assert pointer.generation >= generation
        generation, reads = pointer.generation, reads + 1
    print(reads)
"""


@pytest.mark.parametrize(
    ("swaps", "readers", "reads"),
    [(20, 1, 20), pytest.param(500, 3, 35_000, marks=pytest.mark.slow)],
)
@pytest.mark.timeout(1800)
def test_a_reader_sees_one_complete_version_during_swaps(
    swaps, readers, reads, tmp_path, tiny, at_once
):
    # One version only is kept, so that the reader's is removed as soon as it can be.
    names = ["writer", *[f"reader-{n}" for n in range(readers)]]
    answers = at_once(PREPARE, WRITER, [[tmp_path, name, tiny, swaps, reads] for name in names])

    seen = sum(map(int, answers))
    print(f"{seen:,} reads through {swaps} swaps")
    assert seen >= readers * reads
