"""Time to accuracy: part of ``make bench``, or ``python -m benchmarks.time_to_accuracy``.

Trains our ``convnet`` and published convolutional networks for MNIST, each as published, except for
what its script says, in processes of their own. After each epoch, outside the clock, the 10,000
test images are classified. Prints the seconds and processor seconds until 99.0 % and 99.5 % of
them are right, writes every epoch as CSV, and exits with 1 if a goal is not met. A training ends
at 99.5 %, or after the published number of epochs.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, fields
from math import inf, isfinite
from pathlib import Path
from statistics import median

from benchmarks.peers import HERE, JAX, TORCH, python_of
from benchmarks.training import PROJECT, RESULTS, parser_with_data

CSV = RESULTS / "time_to_accuracy.csv"
ACCURACIES = (0.99, 0.995)
OURS = "digits convnet"
SHARE = 1 / 3


@dataclass(frozen=True)
class Convnet:
    """A recipe for a convolutional network.

    Args:
        script: Takes a seed, a dataset, the number of epochs and ``which``.
        epochs: As published.
        packages: What its environment holds; ours, if empty.
        which: Of the networks of the script.
        variables: Environment variables that it is called with.
    """

    script: Path
    epochs: int
    packages: tuple[str, ...] = ()
    which: str = ""
    variables: dict[str, str] = field(default_factory=dict)


# Its threads would otherwise spin while they wait, and take three times the processor's time if
# something else runs.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
RECIPES = {
    OURS: Convnet(HERE.parent / "convnet_epochs.py", 5),
    "Keras mnist_convnet": Convnet(HERE / "keras_convnet.py", 15, which="example"),
    "PyTorch examples/mnist": Convnet(HERE / "torch_convnet.py", 14, TORCH, "example", PASSIVE),
    "Flax examples/mnist": Convnet(HERE / "jax_convnet.py", 10, JAX),
    # Published are 70 batches, half an epoch.
    "tinygrad beautiful_mnist": Convnet(HERE / "torch_convnet.py", 10, TORCH, "tinygrad", PASSIVE),
    "Kaggle 25 Million Images": Convnet(HERE / "keras_convnet.py", 45, which="kaggle"),
}


@dataclass(frozen=True)
class Epoch:
    """The state after an epoch.

    Args:
        fit_s: Seconds of training so far.
        processor_s: The same of the processor, user and system.
        accuracy: Share of the test images that are right, 0 to 1.
    """

    name: str
    seed: int
    epoch: int
    fit_s: float
    processor_s: float
    accuracy: float


def main() -> int:
    """Measure, print, and return the exit code."""
    arguments = _arguments()
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name in arguments.only or RECIPES:
            try:
                measured = list(_measure(name, seed, arguments.data, arguments.max_epochs))
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            others = [epoch for epoch in _read() if (epoch.name, epoch.seed) != (name, seed)]
            _write(others + measured)
    known = _read()
    _print_table(known)
    print(f"\nevery epoch: {CSV}")
    return 0 if _print_goals(known) else 1


def _arguments() -> argparse.Namespace:
    parser = parser_with_data("time_to_accuracy", __doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many [default: %(default)s]")
    parser.add_argument("--first-seed", type=int, default=0, help="[default: %(default)s]")
    parser.add_argument("--max-epochs", type=int, help="at most so many, if fewer than published")
    parser.add_argument(
        "--only", choices=RECIPES, action="append",
        help="measure this recipe, and show the others as the CSV file has them; may be repeated",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds: expected at least 1, received {arguments.seeds}")
    return arguments


def _measure(name: str, seed: int, data: Path, most: int | None) -> Iterator[Epoch]:
    """Train with a recipe, and yield each epoch as it ends.

    Raises:
        RuntimeError: If it cannot be installed or run.
    """
    recipe = RECIPES[name]
    python = python_of(recipe.packages) if recipe.packages else sys.executable
    if python != sys.executable and isinstance(python, str):
        raise RuntimeError(python)
    epochs = min(recipe.epochs, most or recipe.epochs)
    command = [python, recipe.script, str(seed), data, str(epochs), recipe.which]
    with subprocess.Popen(
        command, cwd=PROJECT, env=os.environ | recipe.variables, stdout=subprocess.PIPE, text=True
    ) as process:
        for number, line in enumerate(process.stdout or (), start=1):
            epoch = Epoch(name, seed, number, *json.loads(line))
            print(
                f"seed {seed}  {name:28}epoch {number:2}{epoch.fit_s:8.1f} s"
                f"{epoch.processor_s:8.1f} CPU-s{epoch.accuracy:9.4f}", file=sys.stderr,
            )  # fmt: skip
            yield epoch
    if process.returncode != 0:
        raise RuntimeError(f"expected exit code 0, received {process.returncode}")


def _read() -> list[Epoch]:
    """What earlier measurements wrote."""
    if not CSV.exists():
        return []
    with CSV.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    kinds = [part.type for part in fields(Epoch)]
    return [Epoch(*(kind(value) for kind, value in zip(kinds, row, strict=True))) for row in rows]


def _write(epochs: list[Epoch]) -> None:
    """Write one row for each epoch."""
    order = list(RECIPES)
    with CSV.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(part.name for part in fields(Epoch))
        for epoch in sorted(epochs, key=lambda e: (order.index(e.name), e.seed, e.epoch)):
            name, seed, number, fit_s, processor_s, accuracy = astuple(epoch)
            writer.writerow([name, seed, number, f"{fit_s:.2f}", f"{processor_s:.2f}", accuracy])


def _until(epochs: list[Epoch], accuracy: float, what: str) -> float:
    """The median of the seeds of ``what`` (fit_s, processor_s or epoch); infinite for never."""
    firsts = [
        next((getattr(e, what) for e in own if e.accuracy >= accuracy), inf)
        for own in _by_seed(epochs)
    ]
    return median(firsts)


def _by_seed(epochs: list[Epoch]) -> list[list[Epoch]]:
    return [[e for e in epochs if e.seed == seed] for seed in sorted({e.seed for e in epochs})]


def _print_table(epochs: list[Epoch]) -> None:
    print("Time to accuracy on MNIST's test images: medians of the seeds")
    print(f"{'':28}{'':7}{'epoch,':>8}{'until 99.0 %':>24}{'until 99.5 %':>24}{'highest':>9}")
    print(f"{'':28}{'seeds':>7}{'CPU-s':>8}{'epoch, s, CPU-s':>24}{'epoch, s, CPU-s':>24}")
    for name in RECIPES:
        own = [epoch for epoch in epochs if epoch.name == name]
        if not own:
            continue
        seeds = _by_seed(own)
        each = median(of_seed[-1].processor_s / len(of_seed) for of_seed in seeds)
        reached = "".join(f"{_shown(own, accuracy):>24}" for accuracy in ACCURACIES)
        best = median(max(e.accuracy for e in of_seed) for of_seed in seeds)
        print(f"{name:28}{len(seeds):7}{each:8.1f}{reached}{best:9.4f}")


def _shown(epochs: list[Epoch], accuracy: float) -> str:
    epoch, fit_s, processor_s = (
        _until(epochs, accuracy, what) for what in ("epoch", "fit_s", "processor_s")
    )
    if isfinite(epoch):
        return f"{epoch:.0f}, {fit_s:.0f}, {processor_s:.0f}"
    measured = max(epoch.epoch for epoch in epochs)
    return "never" if measured == RECIPES[epochs[0].name].epochs else f"not in {measured}"


def _print_goals(epochs: list[Epoch]) -> bool:
    """Print the goals; return whether both are met."""
    print()
    shares: list[float] = []
    for what in ("fit_s", "processor_s"):
        until = {
            name: _until([e for e in epochs if e.name == name], ACCURACIES[-1], what)
            for name in RECIPES
            if any(e.name == name for e in epochs)
        }
        ours = until.pop(OURS, inf)
        best = min(until.values(), default=inf)
        if isfinite(ours) and not isfinite(best):
            print(f"{what}: none of the others reached 99.5 % in the epochs that were measured")
            continue
        shares.append(ours / best if isfinite(ours) else inf)
        print(
            f"{OURS} / the best of the others, {what} until 99.5 %{shares[-1]:9.3f}"
            f"   at most {SHARE:.3f}: {'met' if shares[-1] <= SHARE else 'not met'}"
        )
    return max(shares, default=inf) <= SHARE


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted: what was measured before stays.")
