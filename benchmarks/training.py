"""Compare training with a plain Keras script, side by side: ``python -m benchmarks.training``.

Three ways through the seed procedure on all of MNIST, in turns, each in a fresh process: the
plain script, our training step alone, and the whole ``digits retrain`` with a Prefect server
running. A round's number, from 0, is its seed, and the order rotates from round to round.
Ends with exit code 1 if a goal is not met. One round tells little; five are the measurement.

Accuracy is compared with Keras' ``fit`` on the same initial weights and the same order of the
images, in a fourth process: from seed to seed it scatters by 0.09 points, so that the means of
five different draws differ by chance as much as the goal allows.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from benchmarks.prefect_server import prefect_server

PROJECT = Path(__file__).resolve().parents[1]
MNIST = PROJECT.parent / "shared" / "data" / "mnist"
PLAIN, STEP, COMMAND = "plain script", "training step", "digits retrain"
SAME_ORDER = "fit, our order"


@dataclass(frozen=True)
class Measurement:
    """What one process took.

    Args:
        wall_s: From its start to its end.
        fit_s: Of the training alone, by its own account.
        peak_mib: Its own resident memory at most; the server's is not counted.
        accuracy: Share of the test images that is right, in [0, 1].
    """

    wall_s: float
    fit_s: float
    peak_mib: float
    accuracy: float


Measurements = dict[str, list[Measurement]]


def main() -> int:
    """Measure, print, and return the exit code."""
    # Otherwise SIGTERM would leave the server running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    arguments = _arguments()
    measured: Measurements = {PLAIN: [], STEP: [], COMMAND: [], SAME_ORDER: []}
    with tempfile.TemporaryDirectory() as home, prefect_server(Path(home)) as environment:
        for seed in range(arguments.rounds):
            commands = list(_commands(arguments.data, str(seed)).items())
            turn = seed % len(commands)
            for name, command in commands[turn:] + commands[:turn]:
                result = _measure(command, environment)
                measured[name].append(result)
                print(f"seed {seed}  {name:14}  {result.wall_s:6.1f} s", file=sys.stderr)
    _print_table(measured)
    return 0 if _print_goals(measured) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument(
        "--data",
        type=lambda folder: Path(folder).resolve(),
        metavar="FOLDER",
        help="with MNIST's four IDX files [default: ../shared/data/mnist if it is there, else"
        " Keras loads MNIST]",
    )
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds: expected at least 1, received {arguments.rounds}")
    if arguments.data is None and MNIST.is_dir():
        arguments.data = MNIST
    elif arguments.data is not None and not arguments.data.is_dir():
        parser.error(f"--data: expected a folder, received {arguments.data}")
    return arguments


def _commands(data: Path | None, seed: str) -> dict[str, list[str]]:
    dataset = "mnist" if data is None else str(data)
    digits = str(Path(sys.executable).with_name("digits"))
    retrain = [digits, "retrain", "--dataset", dataset, "--seed", seed]
    return {
        PLAIN: [sys.executable, "benchmarks/plain_keras.py", seed, dataset],
        STEP: [sys.executable, "-m", "benchmarks.training_step", seed, dataset],
        COMMAND: [*retrain, "--json", "--min-accuracy", "0.9"],
        SAME_ORDER: [sys.executable, "benchmarks/plain_keras.py", seed, dataset, "--our-order"],
    }


def _measure(command: list[str], environment: Mapping[str, str]) -> Measurement:
    """Run a command that ends with JSON on standard output, and wait for its end."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=errors
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            sys.exit(
                f"expected exit code 0 of {' '.join(command)},"
                f" received {process.returncode}:\n{errors.read().decode(errors='replace')}"
            )
        # Before it stands Keras' progress, if it had to download MNIST.
        result = json.loads(b"{" + output.read().partition(b"{")[2])
    return Measurement(
        wall_s=wall_s,
        fit_s=result["fit_s"],
        # In KiB, on macOS in bytes.
        peak_mib=usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
        accuracy=result.get("accuracy", result.get("test_accuracy")),
    )


def _print_table(measured: Measurements) -> None:
    seeds = len(measured[PLAIN])
    print(f"All of MNIST, {seeds} seed(s): median (least-most), highest peak, mean accuracy")
    print(f"{'':14} {'wall, s':>19} {'fit, s':>19} {'peak, MiB':>11} {'accuracy':>10}")
    for name, results in measured.items():
        wall = _spread([result.wall_s for result in results])
        fit = _spread([result.fit_s for result in results])
        peak = max(result.peak_mib for result in results)
        print(f"{name:14} {wall:>19} {fit:>19} {peak:11,.0f} {_accuracy(results):10.4f}")


def _print_goals(measured: Measurements) -> bool:
    """Print how each goal stands, and return whether all are met."""
    plain, step, command = measured[PLAIN], measured[STEP], measured[COMMAND]
    fit = median(m.fit_s for m in step) / median(m.fit_s for m in plain)
    wall = median(m.wall_s for m in command) / median(m.wall_s for m in plain)
    same_order = _accuracy(measured[SAME_ORDER])
    points = 100 * max(abs(_accuracy(ours) - same_order) for ours in (step, command))
    goals = (
        (f"{STEP} / {PLAIN}, fit", fit, "at most 0.6", fit <= 0.6),
        (f"{COMMAND} / {PLAIN}, wall", wall, "at most 1.0", wall <= 1.0),
        ("mean accuracies, in the same order, points", points, "below 0.1", points < 0.1),
    )
    print()
    for what, value, goal, met in goals:
        print(f"{what:43} {value:6.3f}   {goal}: {'met' if met else 'not met'}")
    return all(met for *_, met in goals)


def _accuracy(results: list[Measurement]) -> float:
    return fmean(result.accuracy for result in results)


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    sys.exit(main())
