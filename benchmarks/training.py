"""Training compared with other libraries: ``make bench``, or ``python -m benchmarks.training``.

Runs the seed recipe on all of MNIST in turns, each time in a new process: the plain Keras script,
our training step alone, Keras on JAX, JAX, PyTorch and scikit-learn in their own environments
(installed on first use, CPU builds), and the whole ``digits retrain``, with a Prefect server
running and without one. The seed of a round is its number, from 0; the order rotates from round to
round. The matrix products alone are the lower bound. Prints a table, writes it as CSV and as a
plot, and exits with 1 if a goal is not met. One round says little; use five.

Accuracy is also compared with Keras' ``fit`` from the same initial weights and with the same order
of images: it varies by 0.09 points from seed to seed, so the means of five different draws differ
by chance as much as the goal allows.
"""

import argparse
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.peers import PEERS, python_of
from benchmarks.prefect_server import prefect_server
from storage.errors import DatasetNotFoundError
from tasks.data.idx import find_files

PROJECT = Path(__file__).resolve().parents[1]
MNIST = PROJECT.parent / "shared" / "data" / "mnist"
RESULTS = PROJECT / "benchmarks" / "results"
FLOOR = "products alone"
PLAIN, STEP = "plain Keras script", "our training step"
COMMAND, NOTHING = "digits retrain", "digits retrain, no server"
SAME_ORDER = "Keras fit, our order"


@dataclass(frozen=True)
class Measurement:
    """The cost of one process.

    Args:
        wall_s: From its start to its end.
        fit_s: Of the training alone, by its own account.
        peak_mib: Its own resident memory at most; the server's is not counted.
        accuracy: Share of the test images that are right, 0 to 1; None for the lower bound.
    """

    wall_s: float
    fit_s: float
    peak_mib: float
    accuracy: float | None


Measurements = dict[str, list[Measurement]]


def main() -> int:
    """Measure, print, and return the exit code."""
    # Otherwise SIGTERM would leave the server running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    arguments = _arguments()
    pythons = {name: python_of(peer.packages) for name, peer in PEERS.items()}
    missing = {name: why for name, why in pythons.items() if isinstance(why, str)}
    measured: Measurements = {}
    with tempfile.TemporaryDirectory() as home, prefect_server(Path(home)) as environment:
        for seed in range(arguments.rounds):
            commands = _commands(arguments.data, str(seed), pythons)
            turn = seed % len(commands)
            for name, command in commands[turn:] + commands[:turn]:
                own = _environment(name, environment, Path(home) / f"nothing-{seed}")
                if name in missing:
                    continue
                try:
                    result = _measure(command, own)
                except RuntimeError as error:
                    if name not in PEERS:
                        sys.exit(str(error))
                    missing[name] = f"could not be run: {str(error).rpartition(chr(10))[2]}"
                    continue
                measured.setdefault(name, []).append(result)
                print(f"seed {seed}  {name:26}{result.fit_s:6.1f} s of fit", file=sys.stderr)
    order = [name for name, _ in commands]
    measured = {name: measured[name] for name in order if name not in missing}
    _print_table(measured, missing)
    _write_csv(measured, arguments.output / "training.csv")
    _plot(measured, arguments.output / "training.png")
    return 0 if _print_goals(measured) else 1


def _arguments() -> argparse.Namespace:
    parser = parser_with_data("training", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="[default: %(default)s]")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="FOLDER",
        help="where training.csv and training.png go [default: benchmarks/results]",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds: expected at least 1, received {arguments.rounds}")
    try:  # before half an hour of measuring, not after it
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output: expected a folder, received {arguments.output}: {error.strerror}")
    return arguments


def parser_with_data(module: str, doc: str | None) -> argparse.ArgumentParser:
    """Create the parser of a benchmark on all of MNIST: its description, and ``--data``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}", description=(doc or "").partition("\n\n")[2]
    )
    parser.add_argument(
        "--data", type=_mnist_folder, default=str(MNIST), metavar="FOLDER",
        help="with MNIST's four IDX files [default: ../shared/data/mnist]",
    )  # fmt: skip
    return parser


def _mnist_folder(told: str) -> Path:
    """Return the folder, if it has MNIST's four files."""
    folder = Path(told).resolve()
    try:
        find_files(folder)
    except DatasetNotFoundError as error:
        raise argparse.ArgumentTypeError(
            f"expected a folder with MNIST's four IDX files, received {folder}"
        ) from error
    return folder


def _commands(
    data: Path, seed: str, pythons: Mapping[str, Path | str]
) -> list[tuple[str, list[str]]]:
    ours = [sys.executable, "-m"]
    digits = str(Path(sys.executable).with_name("digits"))
    retrain = [digits, "retrain", "--dataset", str(data), "--seed", seed, "--json"]
    plain = [sys.executable, "benchmarks/plain_keras.py", seed, str(data)]
    peers = [
        (name, [str(python), str(peer.script), seed, str(data), *peer.options])
        for name, peer in PEERS.items()
        if isinstance(python := pythons[name], Path)
    ]
    return [
        (FLOOR, [*ours, "benchmarks.products", seed, str(data)]),
        (STEP, [*ours, "benchmarks.training_step", seed, str(data)]),
        (PLAIN, plain),
        *peers,
        (SAME_ORDER, [*plain, "--our-order"]),
        # Each seed has its own champion: another seed's may be better by chance.
        (COMMAND, [*retrain, "--min-accuracy", "0.9", "--name", f"seed-{seed}"]),
        (NOTHING, [*retrain, "--min-accuracy", "0.9", "--name", f"seed-{seed}"]),
    ]


def _environment(name: str, served: Mapping[str, str], new: Path) -> dict[str, str]:
    """The environment with the server; for ``NOTHING``, with empty homes."""
    own = PEERS[name].variables if name in PEERS else {}
    if name == NOTHING:
        own = {"DIGITS_HOME": str(new / "digits"), "PREFECT_HOME": str(new / "prefect")}
    return {**served, **own}


def _measure(command: list[str], environment: Mapping[str, str]) -> Measurement:
    """Run a command whose last line of output is JSON, and wait for it."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdout=output, stderr=errors
        )
        usage = wait_for(process)
        wall_s = time.perf_counter() - started
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            said = errors.read().decode(errors="replace").strip()
            raise RuntimeError(
                f"expected exit code 0 of {' '.join(command)}, received {process.returncode}:"
                f"\n{said}"
            )
        result = json.loads(output.read())
    return Measurement(
        wall_s=wall_s,
        fit_s=result["fit_s"],
        peak_mib=peak_mib(usage),
        accuracy=result.get("accuracy", result.get("test_accuracy")),
    )


def wait_for(process: subprocess.Popen[Any]) -> resource.struct_rusage:
    """Wait for a process, set its exit code, and return what it used; an interrupt ends it."""
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def peak_mib(usage: resource.struct_rusage) -> float:
    """The resident memory of a process at most: KiB in ``usage``, on macOS bytes."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _print_table(measured: Measurements, missing: Mapping[str, str]) -> None:
    plain, floor = _median(measured[PLAIN], "fit_s"), _median(measured[FLOOR], "fit_s")
    rounds = len(measured[PLAIN])
    print(f"All of MNIST, {rounds} round(s) in turns: medians (least-most), mean accuracy")
    print(
        f"{'':26}{'fit, s':>18}{'of plain':>10}{'of floor':>10}"
        f"{'wall, s':>18}{'peak, MiB':>11}{'accuracy':>10}"
    )
    for name, results in measured.items():
        fit = _median(results, "fit_s")
        print(
            f"{name:26}{_spread(results, 'fit_s'):>18}{fit / plain:10.2f}{fit / floor:10.2f}"
            f"{_spread(results, 'wall_s'):>18}{_median(results, 'peak_mib'):11,.0f}"
            f"{_accuracy(results):>10}"
        )
    for name, why in missing.items():
        print(f"{name:26}{why}")


def _write_csv(measured: Measurements, path: Path) -> None:
    """Write one row for each measurement."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "seed", "wall_s", "fit_s", "peak_mib", "accuracy"])
        for name, results in measured.items():
            for seed, result in enumerate(results):
                writer.writerow([name, seed, *asdict(result).values()])
    print(f"\nevery measurement: {path}")


def _plot(measured: Measurements, path: Path) -> None:
    """Plot the seconds of fit as bars, their range as whiskers, the lower bound as a line."""
    from matplotlib.figure import Figure

    rows = {name: results for name, results in measured.items() if name not in {FLOOR, SAME_ORDER}}
    names = sorted(rows, key=lambda name: -_median(rows[name], "fit_s"))
    middle = [_median(rows[name], "fit_s") for name in names]
    values = [[result.fit_s for result in rows[name]] for name in names]
    whiskers = [
        [at - min(own) for at, own in zip(middle, values, strict=True)],
        [max(own) - at for at, own in zip(middle, values, strict=True)],
    ]
    figure = Figure(figsize=(8, 0.45 * len(names) + 1.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    ours = ["#2f6db3" if name in {STEP, COMMAND, NOTHING} else "#b9c2cb" for name in names]
    axes.barh(names, middle, xerr=whiskers, color=ours, ecolor="#22303c", capsize=3)
    floor = _median(measured[FLOOR], "fit_s")
    axes.axvline(floor, color="#c8611a")
    axes.annotate(
        f"the matrix products alone: {floor:.1f} s", (floor, 1), color="#c8611a", fontsize=9,
        xycoords=("data", "axes fraction"), xytext=(4, 3), textcoords="offset points",
    )  # fmt: skip
    for place, at in enumerate(middle):
        axes.annotate(
            f"{at:.1f}", (0, place), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=9, color="white" if ours[place] == "#2f6db3" else "#22303c",
        )  # fmt: skip
    axes.set_xlabel(f"seconds of fit, median of {len(middle and values[0])} (least to most)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    print(f"the plot: {path}")


def _print_goals(measured: Measurements) -> bool:
    """Print the goals; return whether all are met."""
    fit = {name: _median(results, "fit_s") for name, results in measured.items()}
    wall = {name: _median(results, "wall_s") for name, results in measured.items()}
    peak = {name: _median(results, "peak_mib") for name, results in measured.items()}
    best = min((name for name in PEERS if name in fit), key=lambda name: fit[name], default=PLAIN)
    mean = {name: 100 * fmean(m.accuracy or 0 for m in measured[name]) for name in measured}
    behind = max(mean[SAME_ORDER] - mean[name] for name in (STEP, COMMAND))
    goals = (
        (f"{STEP} / {PLAIN}, fit", fit[STEP] / fit[PLAIN], 0.35),
        (f"{STEP} / {best}, fit", fit[STEP] / fit[best], 0.85),
        (f"{STEP} / {FLOOR}, fit", fit[STEP] / fit[FLOOR], 2.5),
        (f"{COMMAND} / {PLAIN}, wall", wall[COMMAND] / wall[PLAIN], 0.6),
        (f"{NOTHING} / {PLAIN}, wall", wall[NOTHING] / wall[PLAIN], 1.0),
        (f"{STEP} / {PLAIN}, peak", peak[STEP] / peak[PLAIN], 1.0),
        (f"{COMMAND} / {PLAIN}, peak", peak[COMMAND] / peak[PLAIN], 1.0),
        (f"points behind {SAME_ORDER}, accuracy", behind, 0.05),
        (f"points behind {PLAIN}, accuracy", mean[PLAIN] - min(mean[STEP], mean[COMMAND]), 0.05),
    )
    print()
    for what, value, most in goals:
        met = "met" if value <= most else "not met"
        print(f"{what:52}{value:7.3f}   at most {most:g}: {met}")
    return all(value <= most for _, value, most in goals)


def _median(results: list[Measurement], name: str) -> float:
    return median(getattr(result, name) for result in results)


def _accuracy(results: list[Measurement]) -> str:
    found = [result.accuracy for result in results if result.accuracy is not None]
    return f"{fmean(found):.4f}" if found else ""


def _spread(results: list[Measurement], name: str) -> str:
    values = [getattr(result, name) for result in results]
    return f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted: nothing was written.")
