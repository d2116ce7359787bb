"""The values that the layers hand to one another; standard library only."""

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from storage.errors import InvalidParameterError

ARCHITECTURES = ("mlp", "cnn")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


@dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value that a parameter may have, both allowed."""

    low: float
    high: float
    kind: str = "number"

    def check(self, name: str, value: float) -> None:
        """Raise InvalidParameterError unless ``low <= value <= high``; NaN never passes."""
        if not self.low <= value <= self.high:
            raise InvalidParameterError(f"{name}: expected {self}, received {value}")

    def __str__(self) -> str:
        return f"a {self.kind} from {self.low:g} to {self.high}"


EPOCHS = Bounds(1, 1000, "whole number")
BATCH_SIZE = Bounds(1, 65536, "whole number")
LEARNING_RATE = Bounds(1e-6, 1)
SEED = Bounds(0, 2**32 - 1, "whole number")
MIN_ACCURACY = Bounds(0, 1)


class Status(StrEnum):
    """Where a run stands; all but ``RUNNING`` are terminal."""

    RUNNING = "running"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run does.

    Args:
        dataset: The name under which runs and champions are kept.
        source: ``mnist``, ``mnist-5k`` or the absolute path of a folder of IDX files.
        architecture: One of ARCHITECTURES.
        epochs: Passes over the training images.
        batch_size: Images per step of the optimizer.
        learning_rate: Step size of the optimizer.
        seed: Decides initial weights and the order of the images.
        min_accuracy: Share of the test images, in [0, 1], that has to be right.

    Raises:
        InvalidParameterError: If a value is out of bounds.
    """

    dataset: str
    source: str
    architecture: str
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    min_accuracy: float

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.dataset):
            raise InvalidParameterError(
                f"name: expected a letter or digit, then up to 63 of them or of '.', '_', '-',"
                f" received {self.dataset!r}; choose one with --name"
            )
        if self.architecture not in ARCHITECTURES:
            raise InvalidParameterError(
                f"architecture: expected one of {', '.join(ARCHITECTURES)}, "
                f"received {self.architecture!r}"
            )
        EPOCHS.check("epochs", self.epochs)
        BATCH_SIZE.check("batch_size", self.batch_size)
        LEARNING_RATE.check("learning_rate", self.learning_rate)
        SEED.check("seed", self.seed)
        MIN_ACCURACY.check("min_accuracy", self.min_accuracy)


@dataclass(frozen=True)
class Evaluation:
    """What a model does on the test images.

    Args:
        loss: Mean categorical cross-entropy, in nats; may be non-finite.
        confusion: 10 rows (the true digit) of 10 counts (the digit that the model says).
    """

    loss: float
    confusion: tuple[tuple[int, ...], ...]

    @property
    def finite_loss(self) -> float | None:
        """The loss, or None where it is no number that a table may hold."""
        return self.loss if math.isfinite(self.loss) else None

    @property
    def total(self) -> int:
        """Number of test images."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Number of test images that the model gets right."""
        return sum(row[digit] for digit, row in enumerate(self.confusion))

    @property
    def recall(self) -> tuple[float | None, ...]:
        """Share of each digit's images that is found, in [0, 1]; None without an image."""
        return tuple(_share(row[d], sum(row)) for d, row in enumerate(self.confusion))

    @property
    def precision(self) -> tuple[float | None, ...]:
        """Share of the answers "d" that is right, in [0, 1]; None without such an answer."""
        columns = zip(*self.confusion, strict=True)
        return tuple(_share(column[d], sum(column)) for d, column in enumerate(columns))


@dataclass(frozen=True)
class Rule:
    """One rule of the gate, in words that can be read aloud."""

    name: str
    required: str
    measured: str
    passed: bool


@dataclass(frozen=True)
class Decision:
    """What the gate says, with a reason for every rule."""

    rules: tuple[Rule, ...]

    @property
    def accepted(self) -> bool:
        """True only if there are rules and every one of them passed."""
        return bool(self.rules) and all(rule.passed for rule in self.rules)

    @property
    def reason(self) -> str:
        """What speaks against the challenger, or what was measured if nothing does."""
        against = [rule for rule in self.rules if not rule.passed]
        if not against:
            return "; ".join(rule.measured for rule in self.rules)
        return "; ".join(f"{r.name}: {r.measured}, required {r.required}" for r in against)


@dataclass(frozen=True)
class Pointer:
    """What names the champion.

    Args:
        generation: Rises by one with each swap; the first is 1.
        version: The run that made the model.
        digest: SHA-256 of the version's manifest, hexadecimal.
    """

    generation: int
    version: str
    digest: str


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
