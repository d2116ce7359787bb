"""The values that the layers hand to one another; standard library only."""

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    """Where a run stands; all but ``RUNNING`` are terminal."""

    RUNNING = "running"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True)
class Evaluation:
    """What a model does on the test images.

    Args:
        loss: Mean categorical cross-entropy, in nats; may be non-finite.
        confusion: 10 rows (the true digit) of 10 counts (the predicted digit).
    """

    loss: float
    confusion: tuple[tuple[int, ...], ...]

    @property
    def finite_loss(self) -> float | None:
        """The loss; None if it is not finite, since tables hold only finite numbers."""
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
        """The rules that failed; if none did, the accuracy and the comparison."""
        against = [rule for rule in self.rules if not rule.passed]
        if not against:
            asked = (rule for rule in self.rules if rule.name in {"accuracy", "champion"})
            return "; ".join(rule.measured for rule in asked)
        return "; ".join(f"{r.name}: {r.measured}, required {r.required}" for r in against)

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        return {"rules": [asdict(rule) for rule in self.rules]}


@dataclass(frozen=True)
class Outcome:
    """How a run ends: a terminal status, and the pointer's generation if it was promoted."""

    status: Status
    reason: str
    generation: int | None = None


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


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
