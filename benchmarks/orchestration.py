"""What a run costs beside its training: ``python -m benchmarks.orchestration``.

Runs `digits retrain` on all of MNIST, each time in a new process, with a Prefect server running
and, from the second round on, a champion. The server's records say how long the flow run and each
task took. The total without load, train and evaluate must stay within the goal: it covers the
checks, the gate with its scoring process, the store, the rows, the report with its pictures, and
all of Prefect. Exits with 1 if it does not.

The import of TensorFlow is left out, because a plain script pays for it too. `build` waits for it,
so its seconds are listed separately.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.prefect_server import prefect_server
from benchmarks.training import MNIST, PROJECT

GOAL_S = 2.5
WORK = ("load", "train", "evaluate")
IMPORT = "build"
ASK = """
import json, sys
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
with get_client(sync_client=True) as client:
    run = client.read_flow_run(sys.argv[1])
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [sys.argv[1]]}))
    seconds = {task.name.rpartition("-")[0]: task.total_run_time.total_seconds() for task in tasks}
    print(json.dumps({"flow": run.total_run_time.total_seconds(), **seconds}))
"""


def main() -> int:
    """Measure, print, and return the exit code."""
    # Otherwise SIGTERM would leave the server running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.orchestration",
        description=(__doc__ or "").partition("\n\n")[2],
    )
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument(
        "--dataset",
        default=str(MNIST) if MNIST.is_dir() else "mnist",
        help="[default: %(default)s]",
    )
    arguments = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory() as home, prefect_server(Path(home)) as environment:
        for seed in range(arguments.rounds):
            rounds.append(_measure(arguments.dataset, str(seed), environment))
            print(f"seed {seed}  {rounds[-1]}", file=sys.stderr)
    return 0 if _print(rounds) else 1


def _measure(dataset: str, seed: str, environment: Mapping[str, str]) -> dict[str, float]:
    """Seconds of each step and of the whole flow run."""
    digits = str(Path(sys.executable).with_name("digits"))
    command = [digits, "retrain", "--dataset", dataset, "--seed", seed, "--json"]
    done = subprocess.run(
        command, check=False, cwd=PROJECT, env=environment, capture_output=True, text=True
    )
    if done.returncode not in {0, 3}:
        sys.exit(f"expected a run that was promoted or rejected, received:\n{done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout)
    # The server may record the last task shortly after the process has ended.
    time.sleep(3)
    asked = subprocess.run(
        [sys.executable, "-c", ASK, row["flow_run_id"]],
        check=True, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    return dict(json.loads(asked.stdout))


def _print(rounds: list[dict[str, float]]) -> bool:
    """Print the median of each step and the goal; return whether it is met."""
    steps = [name for name in rounds[0] if name != "flow"]
    for taken in rounds:
        taken["between the steps"] = taken["flow"] - sum(taken[name] for name in steps)
    own = [name for name in (*steps, "between the steps") if name not in (*WORK, IMPORT)]
    print(f"Median seconds of {len(rounds)} run(s)")
    for title, names in (
        ("the work", WORK),
        ("waits for TensorFlow's import", (IMPORT,)),
        ("orchestration", own),
    ):
        totals = [sum(taken[name] for name in names) for taken in rounds]
        print(f"{title:32} {median(totals):6.2f}  ({min(totals):.2f}-{max(totals):.2f})")
        for name in sorted(names, key=lambda name: -median(taken[name] for taken in rounds)):
            print(f"  {name:30} {median(taken[name] for taken in rounds):6.2f}")
    met = median(totals) <= GOAL_S
    print(f"orchestration at most {GOAL_S} s: {'met' if met else 'not met'}")
    return met


if __name__ == "__main__":
    sys.exit(main())
