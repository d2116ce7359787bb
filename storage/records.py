"""The values that the layers hand to one another; standard library only."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from storage.errors import InvalidParameterError

ARCHITECTURES = ("mlp", "cnn")
CHAMPION_RULES = ("not-worse", "better", "non-inferior")
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
SHARE = Bounds(0, 1)
CORRECTIONS_SHARE = Bounds(0, 0.5)
MARGIN = Bounds(0, 100_000, "whole number")


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
        confident: Whether the lower bound of the accuracy's interval has to meet it too.
        min_recall: Share of each digit's test images, in [0, 1], that has to be found.
        champion_rule: One of CHAMPION_RULES: what a comparison with the champion asks for.
        margin: Test images by which ``non-inferior`` lets a challenger be behind.
        max_drift: Jensen-Shannon distance, in [0, 1], that the training data may have from
            the champion's.
        corrections: Whether it learns from what people corrected.
        corrections_share: Of an epoch's images, in [0, 0.5], that come from them at most.

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
    confident: bool = False
    min_recall: float = 0.8
    champion_rule: str = "not-worse"
    margin: int = 0
    max_drift: float = 0.2
    corrections: bool = False
    corrections_share: float = 0.1

    def __post_init__(self) -> None:
        if not re.fullmatch(NAME_PATTERN, self.dataset):
            raise InvalidParameterError(
                f"name: expected a letter or digit, then up to 63 of them or of '.', '_', '-',"
                f" received {self.dataset!r}; choose one with --name"
            )
        _check_choice("architecture", self.architecture, ARCHITECTURES)
        _check_choice("champion_rule", self.champion_rule, CHAMPION_RULES)
        EPOCHS.check("epochs", self.epochs)
        BATCH_SIZE.check("batch_size", self.batch_size)
        LEARNING_RATE.check("learning_rate", self.learning_rate)
        SEED.check("seed", self.seed)
        SHARE.check("min_accuracy", self.min_accuracy)
        SHARE.check("min_recall", self.min_recall)
        MARGIN.check("margin", self.margin)
        SHARE.check("max_drift", self.max_drift)
        CORRECTIONS_SHARE.check("corrections_share", self.corrections_share)
        if self.margin and self.champion_rule != "non-inferior":
            raise InvalidParameterError(
                f"margin: expected 0 with the champion rule {self.champion_rule},"
                f" received {self.margin}; only non-inferior has a margin"
            )


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
        """What speaks against the challenger; if nothing does, accuracy and comparison."""
        against = [rule for rule in self.rules if not rule.passed]
        if not against:
            asked = (rule for rule in self.rules if rule.name in {"accuracy", "champion"})
            return "; ".join(rule.measured for rule in asked)
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


class SwapKind(StrEnum):
    """What moved the pointer."""

    PROMOTION = "promotion"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Swap:
    """One move of the pointer; all of them are a store's history.

    Args:
        generation: The pointer's number after it.
        version: The version that it points to since.
        digest: SHA-256 of the version's manifest, hexadecimal.
        predecessor: The version that was in use before; None at the first.
        kind: Promotion or rollback.
        actor: Who or what moved it.
        reason: Why, in words.
        swapped_at: When; aware, UTC.
        weights_digest: SHA-256 of the version's weights; None where the manifest has none.
        test_correct: Test images that the version got right when it was promoted.
        test_total: Test images then.
        test_digest: SHA-256 of the test images and labels then.
    """

    generation: int
    version: str
    digest: str
    predecessor: str | None
    kind: SwapKind
    actor: str
    reason: str
    swapped_at: datetime
    weights_digest: str | None = None
    test_correct: int | None = None
    test_total: int | None = None
    test_digest: str | None = None

    @property
    def pointer(self) -> Pointer:
        """What the pointer says after it."""
        return Pointer(self.generation, self.version, self.digest)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidParameterError(
            f"{name}: expected one of {', '.join(choices)}, received {value!r}"
        )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
