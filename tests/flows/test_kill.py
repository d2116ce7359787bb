"""A whole run, killed with -9 at 200 random moments."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

import pytest

from flows.commands.champion import describe
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from storage.records import Pointer
from storage.settings import read_settings
from tasks.load import load

# In each of two tests, which run side by side: 200 in all.
KILLS = 100
# These are left alone: they show how long a run takes now, and are promoted.
WHOLE_RUN_EVERY = 8
# Keras is imported once, and each run is a fork of this process: a real process with a real
# flow run, without the ten seconds that 200 imports would cost each.
# Each run names itself in the log once its row is written; all have the same seed, so that
# whoever lives long enough is promoted, and kills meet the swap and the pruning too.
HOST = """
import logging, os, signal, sys
import keras
from flows.retrain import retrain
log = logging.getLogger("digits")
log.setLevel(logging.INFO)
log.addHandler(logging.StreamHandler())
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        state = retrain(
            dataset=sys.argv[1], epochs=1, seed=0, min_accuracy=0.0, min_recall=0.0,
            return_state=True,
        )
        os._exit(0 if state.is_completed() else 1)
    print(child, flush=True)
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """600 and 100 real digits in MNIST's format."""
    data = load.fn("mnist-5k")
    folder = tmp_path / "small"
    folder.mkdir()
    for name, array, step in (
        ("train-images-idx3-ubyte", data.train_images, 7),
        ("train-labels-idx1-ubyte", data.train_labels, 7),
        ("t10k-images-idx3-ubyte", data.test_images, 10),
        ("t10k-labels-idx1-ubyte", data.test_labels, 10),
    ):
        part = array[::step]
        sizes = b"".join(size.to_bytes(4, "big") for size in part.shape)
        (folder / name).write_bytes(bytes([0, 0, 8, part.ndim]) + sizes + part.tobytes())
    return folder


@pytest.fixture
def served(environment) -> Iterator[dict[str, str]]:
    """The environment with a real Prefect server in it, which ends with the test."""
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.prefect_host.embedded_server"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield {
        **environment,
        "PREFECT_API_URL": server.stdout.readline().strip(),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "DIGITS_LEASE_S": "1",
    }
    server.communicate(timeout=20)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def killed(pid: int) -> bool:
    """Whether it was still there to be killed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def gone_within(pid: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not gone(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Host:
    """A process that starts runs.

    Attributes:
        lengths: Seconds of the last runs that were left alone.
        started: How many runs it has started.
    """

    def __init__(self, dataset: Path, environment: dict[str, str], errors: Path) -> None:
        self.lengths, self.started = deque[float](maxlen=3), 0
        with errors.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", HOST, str(dataset)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        assert self._process.stdout.readline() == "ready\n"

    def start(self) -> int:
        """The process id of a new run."""
        self.started += 1
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def leave_a_run_alone(self) -> None:
        pid, began = self.start(), time.monotonic()
        assert gone_within(pid, 300)
        self.lengths.append(time.monotonic() - began)

    def end(self) -> None:
        self._process.communicate(timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("random_seed", [3, 4])
def test_killed_at_200_random_moments_a_run_leaves_nothing_half_done(
    served, small, home, digits, tmp_path, random_seed
):
    settings = read_settings({"DIGITS_HOME": str(home)})
    store = ModelStore(LocalFolder(settings.models), "small")
    chance = random.Random(random_seed)
    said = tmp_path / "said.txt"
    host = Host(small, served, said)

    def check(at_least: int) -> Pointer:
        pointer, version = store.read_champion()
        assert version.name == pointer.version
        assert pointer.generation >= at_least
        assert describe(settings, "small")["problem"] is None
        return pointer

    try:
        for _ in range(3):
            host.leave_a_run_alone()
        assert store.champion(), said.read_text()[-2000:]
        generation, kills = store.champion().generation, 0
        while kills < KILLS:
            if host.started % WHOLE_RUN_EVERY == 0:
                host.leave_a_run_alone()
                continue
            pid = host.start()
            if not gone_within(pid, chance.uniform(0, median(host.lengths))):
                kills += killed(pid)
                assert gone_within(pid, 300)
            pointer = check(at_least=generation)
            generation = pointer.generation
            if kills % 10 == 0:
                shown = digits("champion", "--dataset", "small", "--json")
                assert shown.returncode == 0, shown.stderr
                assert json.loads(shown.stdout)["version"] == pointer.version

        time.sleep(2)  # longer than a lease
        for _ in range(5):  # on a busy machine a run may miss its lease of one second
            host.leave_a_run_alone()
        assert check(at_least=generation).generation > generation, "promoted"
    finally:
        host.end()

    rows = check_tables(home, store, settings.keep_versions)
    acknowledged = re.findall(r"^run (\S+)$", said.read_text(), re.MULTILINE)
    assert set(acknowledged) <= set(rows), "a row that was acknowledged is still there"
    assert len(acknowledged) > KILLS / 2
    statuses = Counter(rows.values())
    print(
        f"a run takes {median(host.lengths):.1f} s; {kills} kills; rows: {dict(statuses)};"
        f" generations: {generation + 1}; acknowledged: {len(acknowledged)}"
    )
    assert statuses["lost"] > KILLS / 4
    assert statuses["promoted"] > 5, "kills met runs that were to be promoted"


def check_tables(home: Path, store: ModelStore, keep_versions: int) -> dict[str, str]:
    """Rows and store tell the same; the status of each run."""
    history = store.history()
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        rows = sql.execute("SELECT run_id, status, flow_run_id FROM runs").fetchall()
        swaps = sql.execute("SELECT generation, version FROM promotions ORDER BY 1").fetchall()
    statuses = {run: status for run, status, _ in rows}
    assert len(statuses) == len({flow_run for *_, flow_run in rows}) == len(rows), "one row each"
    assert set(statuses.values()) <= {"promoted", "lost"}
    assert {run for run, status in statuses.items() if status == "promoted"} == {
        swap.version for swap in history.swaps
    }
    assert swaps == [(swap.generation, swap.version) for swap in history.swaps]
    assert [generation for generation, _ in swaps] == list(range(1, len(swaps) + 1))
    assert not list((store.folder / "staging").iterdir())
    there = {path.name for path in (store.folder / "versions").iterdir()}
    assert there == set(store.kept()) == history.kept(keep_versions)
    return statuses
