import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tasks.scoring.statistics import interval, loss_and_confusion, mcnemar

PROBABILITIES = arrays(
    np.float32, st.tuples(st.integers(1, 30), st.just(10)), elements=st.floats(0, 1, width=32)
)


def tail(correct: int, total: int, p: Fraction) -> Fraction:
    """P(X >= correct) of a binomial variable, term by term and exactly."""
    return sum(
        (math.comb(total, k) * p**k * (1 - p) ** (total - k) for k in range(correct, total + 1)),
        Fraction(0),
    )


@given(probabilities=PROBABILITIES, data=st.data())
def test_loss_and_confusion_are_those_of_a_loop_over_the_images(
    probabilities: NDArray[np.float32], data: st.DataObject
) -> None:
    total = len(probabilities)
    labels = data.draw(arrays(np.uint8, total, elements=st.integers(0, 9)))
    evaluation = loss_and_confusion(probabilities, labels)
    confusion = [[0] * 10 for _ in range(10)]
    losses = []
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confusion[label][row.index(max(row))] += 1
        losses.append(-math.log(min(max(row[label], 1e-7), 1.0)))
    assert evaluation.confusion == tuple(map(tuple, confusion))
    assert evaluation.loss == pytest.approx(math.fsum(losses) / total, rel=1e-9, abs=1e-12)
    assert evaluation.total == total
    # Plain integers, which JSON and a database take.
    assert {type(count) for row in evaluation.confusion for count in row} == {int}


@given(probabilities=PROBABILITIES, data=st.data())
def test_one_answer_that_is_not_finite_leaves_no_loss_and_every_image_counted(
    probabilities: NDArray[np.float32], data: st.DataObject
) -> None:
    total = len(probabilities)
    labels = data.draw(arrays(np.uint8, total, elements=st.integers(0, 9)))
    damaged = probabilities.copy()
    where = data.draw(st.tuples(st.integers(0, total - 1), st.integers(0, 9)))
    damaged[where] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    evaluation = loss_and_confusion(damaged, labels)
    assert math.isnan(evaluation.loss)
    assert evaluation.finite_loss is None
    assert evaluation.total == total


def test_a_confident_wrong_answer_has_the_same_loss_as_in_keras() -> None:
    import keras

    certain = np.eye(10, dtype=np.float32)
    labels = np.array([0, 2, 2, 3, 4, 5, 6, 7, 8, 9])  # the second is wrong
    theirs = keras.losses.CategoricalCrossentropy()(np.eye(10)[labels], certain)
    assert loss_and_confusion(certain, labels).loss == pytest.approx(float(theirs), rel=1e-5)
    assert loss_and_confusion(certain, labels).loss == pytest.approx(-math.log(1e-7) / 10)


def test_no_images_have_no_loss() -> None:
    nothing = loss_and_confusion(np.zeros((0, 10), np.float32), np.zeros(0, np.uint8))
    assert math.isnan(nothing.loss)
    assert (nothing.correct, nothing.total) == (0, 0)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Clopper and Pearson's charts and the tables made after them, e.g. Bland, An
        # Introduction to Medical Statistics; 0 of n is 1 - 0.025 ** (1 / n), the rule of three.
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (1, 10, 0.0025, 0.4450),
        (5, 10, 0.1871, 0.8129),
        (8, 10, 0.4439, 0.9748),
        (0, 100, 0.0, 0.0362),
        (50, 100, 0.3983, 0.6017),
        (9_800, 10_000, 0.9771, 0.9827),
    ],
)
def test_the_interval_is_the_published_one(
    correct: int, total: int, low: float, high: float
) -> None:
    assert interval(correct, total) == pytest.approx((low, high), abs=5e-5)


@given(total=st.integers(1, 80), share=st.floats(0, 1))
def test_the_bounds_are_where_the_binomial_tails_are_two_and_a_half_percent(
    total: int, share: float
) -> None:
    correct = round(share * total)
    low, high = interval(correct, total)
    assert 0 <= low <= correct / total <= high <= 1
    if correct:
        assert float(tail(correct, total, Fraction(low))) == pytest.approx(0.025, rel=1e-6)
    else:
        assert low == 0
    if correct < total:
        below = 1 - tail(correct + 1, total, Fraction(high))
        assert float(below) == pytest.approx(0.025, rel=1e-6)
    else:
        assert high == 1


@given(ours=st.integers(0, 400), theirs=st.integers(0, 400))
def test_mcnemar_equals_the_probability_of_that_many_heads_with_a_fair_coin(
    ours: int, theirs: int
) -> None:
    exact = tail(ours, ours + theirs, Fraction(1, 2))
    assert mcnemar(ours, theirs) == pytest.approx(float(exact), rel=1e-9)


def test_without_a_pair_that_differs_nothing_speaks_for_the_challenger() -> None:
    assert mcnemar(0, 0) == 1.0
