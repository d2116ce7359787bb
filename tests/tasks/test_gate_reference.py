"""The gate's rule about the champion's record: data that changed, not a model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.recipe import Recipe
from storage.records import Evaluation, Pointer, Rule
from tasks.gate import gate
from tasks.scoring.reference import Confusion, Record
from tasks.scoring.values import Measurements, NotScored, Pairs, Score

SEEN = Pointer(4, "20261101-020000-abcdef", "ab" * 32)
THEN, TONIGHT = "aa" * 32, "bb" * 32
# Of 1,000 images of each digit 980 are right; the others are read as the next two digits.
HONEST = np.eye(10, dtype=int) * 980 + np.roll(np.eye(10, dtype=int), 1, axis=1) * 15
HONEST = HONEST + np.roll(np.eye(10, dtype=int), 2, axis=1) * 5


def counts(confusion: NDArray[np.int_]) -> Confusion:
    return tuple(tuple(map(int, row)) for row in confusion)


def relabelled(confusion: NDArray[np.int_], labels: Sequence[int]) -> NDArray[np.int_]:
    """The same answers to the same images, which are labelled ``labels[digit]`` now."""
    moved = np.zeros_like(confusion)
    np.add.at(moved, list(labels), confusion)
    return moved


def rule(
    recipe: Recipe,
    tonight: NDArray[np.int_],
    *,
    digest: str = TONIGHT,
    training: NDArray[np.int_] = HONEST // 10,
    recorded: bool = True,
) -> Rule | None:
    """What the rule says of a champion whose record is HONEST."""
    record = Record(THEN, 9_800, 10_000, counts(HONEST) if recorded else None)
    now = Evaluation(0.1, counts(tonight))
    champion = Score(now, 1e-7, record=record, on_training=counts(training))
    ours = Evaluation(0.1, counts(HONEST))
    found = Measurements(digest, ours, Score(ours, 1e-7), champion, None, SEEN, Pairs(0, 0))
    decision = gate.fn(found, recipe)
    return next((one for one in decision.rules if one.name == "reference"), None)


def test_each_label_plus_one_is_refused_with_both_figures_and_the_way_out(
    new_recipe: Callable[..., Recipe],
) -> None:
    shifted = [(digit + 1) % 10 for digit in range(10)]
    found = rule(
        new_recipe(),
        relabelled(HONEST, shifted),
        training=relabelled(HONEST // 10, shifted),
    )
    assert found == Rule(
        name="reference",
        required="the champion as when promoted: 9,800 of 10,000 correct; correct the images or"
        " labels, or add --accept-change if the change is meant",
        measured="the champion has 150 of 10,000 correct on another test set; test images labelled"
        " 0 read as 9 (980 of 1,000), labelled 1 read as 0 (980 of 1,000), labelled 2 read as 1"
        " (980 of 1,000) and 7 more; training images labelled 0 read as 9 (98 of 99), labelled 1"
        " read as 0 (98 of 99), labelled 2 read as 1 (98 of 99) and 7 more",
        passed=False,
    )


def test_a_person_may_accept_the_change(new_recipe: Callable[..., Recipe]) -> None:
    found = rule(new_recipe(accept_change=True), relabelled(HONEST, [*range(1, 10), 0]))
    assert found is not None
    assert found.passed
    assert found.measured.endswith("and 7 more; accepted as meant")


@pytest.mark.parametrize("where", ["both", "training", "test"])
@pytest.mark.parametrize("recorded", [True, False])
def test_every_two_labels_exchanged_are_refused(
    new_recipe: Callable[..., Recipe], where: str, recorded: bool
) -> None:
    for one, other in combinations(range(10), 2):
        labels = list(range(10))
        labels[one], labels[other] = other, one
        changed = relabelled(HONEST, labels)
        tonight = HONEST if where == "training" else changed
        training = HONEST if where == "test" else changed
        found = rule(
            new_recipe(),
            tonight,
            digest=THEN if where == "training" else TONIGHT,
            training=training,
            recorded=recorded,
        )
        assert found is not None
        assert not found.passed, (one, other)
        # The totals show an exchange in both files where the digits were not recorded.
        if recorded or where == "training":
            part = "training" if where == "training" else "test"
            assert f"{part} images labelled {one} read as {other} (980 of 1,000)" in found.measured


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_a_label_that_is_used_for_part_of_another_digit_is_refused(
    new_recipe: Callable[..., Recipe], share: float
) -> None:
    moved = HONEST.copy()
    moved[1] += (HONEST[7] * share).astype(int)
    moved[7] -= (HONEST[7] * share).astype(int)
    for tonight, training in ((moved, moved), (HONEST, moved)):
        found = rule(new_recipe(), tonight, training=training)
        assert found is not None
        assert not found.passed
        assert "images labelled 1 read as 7" in found.measured


@pytest.mark.parametrize(
    ("correct", "digest", "passed"),
    [
        (9_800, THEN, True),
        (9_799, THEN, False),
        (9_801, THEN, False),
        (9_799, TONIGHT, True),
        (9_601, TONIGHT, True),
        (9_599, TONIGHT, False),
        (10_000, TONIGHT, True),
    ],
)
def test_the_same_test_set_allows_no_other_count_and_another_one_two_points(
    new_recipe: Callable[..., Recipe], correct: int, digest: str, passed: bool
) -> None:
    tonight = HONEST.copy()
    # Evenly: no digit and no pair of digits stands out.
    for missing in range(abs(9_800 - correct)):
        digit, answer = missing % 10, (missing % 10 + 3 + missing // 10 % 6) % 10
        step = 1 if correct < 9_800 else -1
        tonight[digit, digit] -= step
        if step > 0:
            tonight[digit, answer] += 1
        else:
            tonight[digit, (digit + (1 if missing < 150 else 2)) % 10] -= 1
    found = rule(new_recipe(), tonight, digest=digest)
    assert found is not None
    assert found.passed is passed, found.measured


def test_a_fall_that_may_be_chance_on_few_images_is_none(
    new_recipe: Callable[..., Recipe],
) -> None:
    few = np.eye(10, dtype=int) * 9 + np.roll(np.eye(10, dtype=int), 1, axis=1)
    found = rule(new_recipe(), few, training=few)
    assert found is not None
    assert found.passed
    assert found.measured == "the champion has 90 of 100 correct on another test set"


def test_there_is_no_rule_without_a_record_or_a_champion_that_answers(
    new_recipe: Callable[..., Recipe],
) -> None:
    ours = Evaluation(0.1, counts(HONEST))
    alone = Measurements(TONIGHT, ours, Score(ours, 1e-7))
    for champion in (None, Score(ours, 1e-7), NotScored("its file is damaged")):
        decision = gate.fn(replace(alone, champion=champion), new_recipe())
        assert "reference" not in [one.name for one in decision.rules]
    assert Record.of({"test_correct": 9_800}) is None
    old = {"test_correct": 98, "test_total": 100, "test_digest": THEN}
    assert Record.of(old) == Record(THEN, 98, 100, None)
    assert Record.of({**old, "test_confusion": [[9, 1], [0, 8]]}) == (
        Record(THEN, 98, 100, ((9, 1), (0, 8)))
    )
