import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records import Evaluation
from tasks.gate import gate


def measured(correct: int, total: int, loss: float = 0.1) -> Evaluation:
    """An evaluation with these counts."""
    row = (correct, total - correct, *[0] * 8)
    return Evaluation(loss=loss, confusion=(row, *[(0,) * 10] * 9))


@st.composite
def measurements(draw: st.DrawFn) -> tuple[int, int, float]:
    """A count, a total, and a minimum that is anything, or written in a few decimals, or near."""
    total = draw(st.integers(1, 70_000))
    correct = draw(st.integers(0, total))
    anything = st.floats(0, 1)
    decimals = st.integers(0, 10_000).map(lambda parts: parts / 10_000)
    near = st.sampled_from([-1, 0, 1]).map(lambda step: min(1, max(0, (correct + step) / total)))
    return correct, total, draw(st.one_of(anything, decimals, near))


@given(measurements())
def test_gate_accepts_exactly_the_counts_that_reach_the_minimum_as_it_is_written(
    drawn: tuple[int, int, float],
) -> None:
    correct, total, min_accuracy = drawn
    decision = gate.fn(measured(correct, total), min_accuracy)
    assert decision.accepted == (correct >= Fraction(str(min_accuracy)) * total)


@pytest.mark.parametrize(
    ("correct", "total", "min_accuracy", "accepted"),
    [
        (9_500, 10_000, 0.95, True),
        (9_499, 10_000, 0.95, False),
        (7, 100, 0.07, True),
        (6, 100, 0.07, False),
        (29, 100, 0.29, True),
        (1, 3, 0.3333, True),
        (1, 3, 0.3334, False),
        (10_000, 10_000, 1.0, True),
        (9_999, 10_000, 1.0, False),
        (0, 10, 0.0, True),
    ],
)
def test_gate_counts_images_and_does_not_compare_rounded_shares(
    correct: int, total: int, min_accuracy: float, accepted: bool
) -> None:
    assert gate.fn(measured(correct, total), min_accuracy).accepted is accepted


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_gate_rejects_when_the_loss_is_not_finite(loss: float) -> None:
    decision = gate.fn(measured(100, 100, loss), 0.5)
    assert not decision.accepted
    assert decision.reason == f"finite: test loss {loss}, required a finite number"


@pytest.mark.parametrize("min_accuracy", [0.0, 0.5])
def test_gate_rejects_when_there_was_no_image(min_accuracy: float) -> None:
    assert not gate.fn(measured(0, 0), min_accuracy).accepted


@pytest.mark.parametrize("min_accuracy", [math.nan, math.inf])
@pytest.mark.parametrize("total", [0, 100])
def test_gate_rejects_when_the_minimum_is_no_number(total: int, min_accuracy: float) -> None:
    assert not gate.fn(measured(total, total), min_accuracy).accepted


def test_gate_gives_a_reason_for_every_rule() -> None:
    finite, accuracy = gate.fn(measured(9_499, 10_000, 0.25), 0.95).rules
    assert (finite.name, finite.measured, finite.passed) == ("finite", "test loss 0.2500", True)
    assert accuracy.required == "at least 0.95 (9,500)"
    assert accuracy.measured == "9,499 of 10,000 right"
    assert not accuracy.passed
