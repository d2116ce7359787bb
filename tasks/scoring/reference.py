"""The champion's record, and what speaks against tonight's images or labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.records import Evaluation
from tasks.scoring.statistics import chance_of_rise

Confusion = tuple[tuple[int, ...], ...]

SIGNIFICANCE = 1e-6
# Smaller changes are no evidence, however many images there are: shares of all test images, and
# of one label's images.
MIN_FALL = 0.02
MIN_MISREAD = 0.1


@dataclass(frozen=True)
class Record:
    """What a version did on the test set when it was promoted.

    Args:
        test_digest: SHA-256 of the test images and labels then, hexadecimal.
        correct: Test images that it got right.
        total: Test images.
        confusion: 10 rows (the label) of 10 counts (the answer); None in earlier releases.
    """

    test_digest: str
    correct: int
    total: int
    confusion: Confusion | None = None

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Record | None":
        """Read it from a version's manifest; None if the manifest has none."""
        if not {"test_digest", "test_correct", "test_total"} <= manifest.keys():
            return None
        confusion = manifest.get("test_confusion")
        return cls(
            manifest["test_digest"],
            manifest["test_correct"],
            manifest["test_total"],
            confusion and tuple(map(tuple, confusion)),
        )


@dataclass(frozen=True)
class Misread:
    """A label whose images the champion reads as another digit far more often than before."""

    label: int
    answer: int
    count: int
    total: int

    def __str__(self) -> str:
        """For example ``labelled 1 read as 0 (975 of 1,135)``."""
        return f"labelled {self.label} read as {self.answer} ({self.count:,} of {self.total:,})"


def has_fallen(now: Evaluation, record: Record, test_digest: str) -> bool:
    """Whether the champion does far worse than on its record.

    On the same test set any other count is evidence: its files have not changed. On another test
    set, a fall must be larger than MIN_FALL, and too large to be chance.
    """
    if record.test_digest == test_digest:
        return (now.correct, now.total) != (record.correct, record.total)
    if not (now.total and record.total):
        return False
    fall = record.correct / record.total - now.correct / now.total
    wrong, wrong_then = now.total - now.correct, record.total - record.correct
    p = chance_of_rise(wrong, now.total, wrong_then, record.total)
    return fall > MIN_FALL and p < SIGNIFICANCE


def misread(now: Confusion, then: Confusion) -> list[Misread]:
    """Find labels whose images are read as another digit more often, by MIN_MISREAD and no chance.

    A permutation of labels, or one label used for another digit's images, looks like this.
    """
    found = []
    for label, (row, before) in enumerate(zip(now, then, strict=True)):
        total, total_then = sum(row), sum(before)
        for answer, count in enumerate(row):
            if answer == label or not (total and total_then):
                continue
            rise = count / total - before[answer] / total_then
            if rise > MIN_MISREAD and (
                chance_of_rise(count, total, before[answer], total_then) < SIGNIFICANCE
            ):
                found.append(Misread(label, answer, count, total))
    return found


def listed(part: str, found: list[Misread], most: int = 3) -> str:
    """In words, with at most so many of them; ``part`` is ``test`` or ``training``."""
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"{part} images {', '.join(map(str, found[:most]))}{more}"
