"""A whole run, killed with -9 at 200 random moments."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flows.champion import describe
from storage.model_store import ModelStore
from storage.settings import read_settings
from tasks.load import load

KILLS = 200
# Keras is imported once, and each run is a fork of this process: a real process with a real
# flow run, without the ten seconds that 200 imports would cost each.
HOST = """
import os, signal, sys
import keras
from flows.retrain import retrain
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        state = retrain(
            dataset=sys.argv[1], epochs=1, seed=int(line), min_accuracy=0.0, min_recall=0.0,
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
        [sys.executable, "-P", "-m", "flows.embedded_server"],
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


def wait_until_gone(pid: int, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_killed_at_200_random_moments_a_run_leaves_nothing_half_done(
    served, small, home, digits, tmp_path
):
    settings = read_settings({"DIGITS_HOME": str(home)})
    store = ModelStore(settings.models, "small")
    chance = random.Random(3)
    said = tmp_path / "said.txt"
    with said.open("wb") as errors:
        host = subprocess.Popen(
            [sys.executable, "-P", "-c", HOST, str(small)],
            env=served,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def start(seed: int) -> int:
        host.stdin.write(f"{seed}\n")
        host.stdin.flush()
        return int(host.stdout.readline())

    try:
        assert host.stdout.readline() == "ready\n"
        lengths = []
        for seed in range(3):
            began = time.monotonic()
            wait_until_gone(start(seed))
            lengths.append(time.monotonic() - began)
        length = max(lengths[1:])
        before = store.champion()
        assert before, said.read_text()[-2000:]

        for number in range(KILLS):
            pid = start(1000 + number)
            time.sleep(chance.uniform(0, 1.05 * length))
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
            wait_until_gone(pid)
            pointer, version = store.read_champion()
            assert version.name == pointer.version
            assert pointer.generation >= before.generation
            before = pointer
            assert describe(settings, "small")["problem"] is None
            if number % 20 == 0:
                shown = digits("champion", "--dataset", "small", "--json")
                assert shown.returncode == 0, shown.stderr
                assert json.loads(shown.stdout)["version"] == pointer.version

        time.sleep(2)  # longer than a lease
        wait_until_gone(start(1))
    finally:
        host.communicate(timeout=30)

    statuses = check_tables(home, store, settings.keep_versions)
    print(f"a run takes {length:.1f} s; {KILLS} kills; rows: {statuses}")
    assert statuses["lost"] > KILLS / 4


def check_tables(home: Path, store: ModelStore, keep_versions: int) -> Counter[str]:
    """Rows and store tell the same; how many rows have which status."""
    history = store.history()
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        rows = dict(sql.execute("SELECT run_id, status FROM runs").fetchall())
        count = sql.execute("SELECT count(*) FROM runs").fetchone()[0]
        swaps = sql.execute("SELECT generation, version FROM promotions ORDER BY 1").fetchall()
        with_flow_run = sql.execute(
            "SELECT count(*), count(DISTINCT flow_run_id) FROM runs"
        ).fetchone()
    assert len(rows) == count
    assert with_flow_run[0] == with_flow_run[1], "each run has one row"
    assert set(rows.values()) <= {"promoted", "rejected", "lost"}
    assert {run for run, status in rows.items() if status == "promoted"} == {
        swap.version for swap in history.swaps
    }
    assert swaps == [(swap.generation, swap.version) for swap in history.swaps]
    assert not list((store.folder / "staging").iterdir())
    assert set(store.kept()) == history.kept(keep_versions)
    return Counter(rows.values())
