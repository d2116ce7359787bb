"""What scoring produces and the gate decides from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage.models.classifier import GOLDEN_TOLERANCE
from storage.records import Evaluation, Pointer, Swap
from tasks.scoring.reference import Confusion, Record
from tasks.scoring.statistics import interval


@dataclass(frozen=True)
class Mistake:
    """A test image that a model gets wrong: its index, and the answer's probability in [0, 1]."""

    index: int
    true: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Counts:
    """Images that a model gets right, of at least one."""

    correct: int
    total: int


@dataclass(frozen=True)
class Score:
    """A stored model's result.

    Args:
        evaluation: On the test set.
        golden_difference: Largest difference of a probability on the golden batch from what
            Keras answered; may be NaN.
        mistakes: The most confident ones, most confident first.
        field: On the field set; None without one.
        calibration_error: On the test set, in [0, 1]; NaN if a probability is not finite.
        record: What the champion did when it was promoted; None for other models.
        on_training: What the champion answers to some training images of each label; None for
            other models.
        not_digits_sure: Corrections that are not a digit and are answered surely; None without one.
        robustness: On some of the test images, by how they were transformed; None for the best
            champion so far, and if a probability is not finite.
    """

    evaluation: Evaluation
    golden_difference: float
    mistakes: tuple[Mistake, ...] = ()
    field: Counts | None = None
    calibration_error: float | None = None
    record: Record | None = None
    on_training: Confusion | None = None
    not_digits_sure: int | None = None
    robustness: dict[str, Counts] | None = None

    @property
    def problem(self) -> str | None:
        """Why its counts must not be compared with; None if they may be."""
        if not math.isfinite(self.evaluation.loss):
            return "its test loss is not finite"
        if not self.golden_difference <= GOLDEN_TOLERANCE:
            return f"its golden batch is off by {self.golden_difference:.1g}"
        return None


@dataclass(frozen=True)
class NotScored:
    """A stored model without a score, and why, in one line: a failure never becomes a number."""

    reason: str


@dataclass(frozen=True)
class Pairs:
    """Images that only one of challenger and champion gets right."""

    only_challenger: int
    only_champion: int


@dataclass(frozen=True)
class Measurements:
    """Everything the gate decides from.

    Args:
        test_digest: SHA-256 of the test images and labels, hexadecimal.
        trained: The challenger in memory, as Keras evaluates it.
        challenger: The challenger's stored bytes.
        champion: The champion's stored bytes, scored on the same images in the same process;
            None without a champion.
        best: Likewise the best champion so far, if the champion rule needs it and it is not the
            champion itself.
        compared_with: The pointer that named the champion.
        pairs: None unless both challenger and champion answered.
        field_pairs: Likewise on each part of the field set: one digit's, or one person's.
        rolled_back: The rollback that took these very weights out of use.
    """

    test_digest: str
    trained: Evaluation
    challenger: Score | NotScored
    champion: Score | NotScored | None = None
    best: Score | NotScored | None = None
    compared_with: Pointer | None = None
    pairs: Pairs | None = None
    rolled_back: Swap | None = None
    field_pairs: Mapping[str, Pairs] = field(default_factory=dict)

    @property
    def evaluation(self) -> Evaluation:
        """Of the challenger's stored bytes; of the model in memory if they have no score."""
        stored = self.challenger
        return stored.evaluation if isinstance(stored, Score) else self.trained

    @property
    def recorded(self) -> Evaluation | None:
        """The evaluation, if it may go into the table: finite, and of at least one image."""
        evaluation = self.evaluation
        return None if evaluation.finite_loss is None or not evaluation.total else evaluation

    @property
    def robustness(self) -> dict[str, Counts]:
        """The challenger's on transformed images; empty if it may not go into the table."""
        stored = self.challenger
        return (isinstance(stored, Score) and self.recorded and stored.robustness) or {}

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``; None for what is not finite, or was counted from it."""
        evaluation, champion = self.recorded, usable(self.champion)
        low, high = interval(evaluation.correct, evaluation.total) if evaluation else (None, None)
        champion_correct = champion.evaluation.correct if isinstance(champion, Score) else None
        compared = self.pairs if evaluation and isinstance(champion, Score) else None
        return {
            "test_digest": self.test_digest,
            "test_loss": evaluation and evaluation.loss,
            "test_accuracy": evaluation and evaluation.correct / evaluation.total,
            "test_correct": evaluation and evaluation.correct,
            "test_total": evaluation and evaluation.total,
            "accuracy_low": low,
            "accuracy_high": high,
            "calibration_error": evaluation and _calibration_error(self.challenger),
            "field_correct": evaluation and _field_correct(self.challenger),
            "not_digits_sure": evaluation and _not_digits_sure(self.challenger),
            "champion_version": self.compared_with and self.compared_with.version,
            "champion_correct": champion_correct,
            "champion_field_correct": _field_correct(champion),
            "only_challenger_correct": compared and compared.only_challenger,
            "only_champion_correct": compared and compared.only_champion,
        }


def usable(score: Score | NotScored | None) -> Score | NotScored:
    """The score if its counts may be compared with, otherwise the reason why not."""
    if isinstance(score, Score) and score.problem:
        return NotScored(score.problem)
    return score or NotScored("it was not measured")


def _calibration_error(score: Score | NotScored) -> float | None:
    error = score.calibration_error if isinstance(score, Score) else None
    return error if error is not None and math.isfinite(error) else None


def _field_correct(score: Score | NotScored) -> int | None:
    return score.field.correct if isinstance(score, Score) and score.field else None


def _not_digits_sure(score: Score | NotScored) -> int | None:
    return score.not_digits_sure if isinstance(score, Score) else None
