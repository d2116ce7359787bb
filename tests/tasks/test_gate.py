import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.recipe import Recipe
from storage.records import Decision, Evaluation, Rule, Swap, SwapKind
from tasks.gate import gate
from tasks.scoring.values import Measurements, NotScored, Score

NAMES = ["finite", "accuracy", "digit recall", "faithful", "champion", "rollback"]
ROLLBACK = Swap(
    generation=3,
    version="older",
    digest="cd" * 32,
    predecessor="bad",
    kind=SwapKind.ROLLBACK,
    actor="anna",
    reason="it takes sevens for ones",
    swapped_at=datetime(2026, 11, 2, 8, 30, tzinfo=UTC),
)


def evaluation(correct: int, total: int, loss: float = 0.1) -> Evaluation:
    """These counts over ten digits as evenly as they go; who is wrong says the next digit."""
    rows = [[0] * 10 for _ in range(10)]
    for image in range(total):
        digit = image % 10
        rows[digit][digit if image < correct else (digit + 1) % 10] += 1
    return Evaluation(loss, tuple(map(tuple, rows)))


def measured(found: Evaluation, golden: float = 1e-7, **others: object) -> Measurements:
    """A first run whose stored model does what Keras said of it, but for what is given."""
    values = {"test_digest": "cd" * 32, "trained": found, "challenger": Score(found, golden)}
    return Measurements(**{**values, **others})


def rule(decision: Decision, name: str) -> Rule:
    (found,) = [rule for rule in decision.rules if rule.name == name]
    return found


@st.composite
def counts_and_minimum(draw: st.DrawFn) -> tuple[int, int, float]:
    """A count, a total, and a minimum that is anything, or written in a few decimals, or near."""
    total = draw(st.integers(1, 70_000))
    correct = draw(st.integers(0, total))
    anything = st.floats(0, 1)
    decimals = st.integers(0, 10_000).map(lambda parts: parts / 10_000)
    near = st.sampled_from([-1, 0, 1]).map(lambda step: min(1, max(0, (correct + step) / total)))
    return correct, total, draw(st.one_of(anything, decimals, near))


@given(drawn=counts_and_minimum())
def test_accuracy_takes_exactly_the_counts_that_reach_the_minimum_as_it_is_written(
    new_recipe: Callable[..., Recipe], drawn: tuple[int, int, float]
) -> None:
    correct, total, minimum = drawn
    # One row: accuracy does not ask which digit, and 70,000 images are quickly made of it.
    row = (correct, total - correct, *[0] * 8)
    found = Evaluation(0.1, (row, *[(0,) * 10] * 9))
    decision = gate.fn(measured(found), new_recipe(min_accuracy=minimum))
    assert rule(decision, "accuracy").passed == (correct >= Fraction(str(minimum)) * total)


@pytest.mark.parametrize(
    ("correct", "total", "minimum", "passed"),
    [
        (9_500, 10_000, 0.95, True),
        (9_499, 10_000, 0.95, False),
        (7, 100, 0.07, True),
        (6, 100, 0.07, False),
        (29, 100, 0.29, True),
        (10_000, 10_000, 1.0, True),
        (9_999, 10_000, 1.0, False),
        (0, 10, 0.0, True),
    ],
)
def test_the_whole_gate_counts_images_and_does_not_compare_rounded_shares(
    new_recipe: Callable[..., Recipe], correct: int, total: int, minimum: float, passed: bool
) -> None:
    recipe = new_recipe(min_accuracy=minimum, min_recall=0.0)
    assert gate.fn(measured(evaluation(correct, total)), recipe).accepted is passed


@given(
    total=st.integers(10, 60),
    share=st.floats(0, 1),
    minimum=st.integers(1, 999).map(lambda parts: parts / 1000),
)
def test_confident_asks_that_a_worse_model_would_hardly_ever_get_so_many_right(
    new_recipe: Callable[..., Recipe], total: int, share: float, minimum: float
) -> None:
    correct = round(share * total)
    p = Fraction(str(minimum))
    # What the lower bound of Clopper and Pearson says, without computing the bound: at the
    # minimum itself, so many or more would be right in at most 2.5 % of all test sets.
    tail = sum(
        math.comb(total, k) * p**k * (1 - p) ** (total - k) for k in range(correct, total + 1)
    )
    recipe = new_recipe(min_accuracy=minimum, confident=True)
    accuracy = rule(gate.fn(measured(evaluation(correct, total)), recipe), "accuracy")
    assert accuracy.passed == (tail <= Fraction(25, 1000))


def test_confident_is_stricter_and_says_so(new_recipe: Callable[..., Recipe]) -> None:
    found = measured(evaluation(9_710, 10_000))
    plain = gate.fn(found, new_recipe(min_accuracy=0.97))
    confident = gate.fn(found, new_recipe(min_accuracy=0.97, confident=True))
    assert plain.accepted
    assert not confident.accepted
    assert confident.reason == (
        "accuracy: 9,710 of 10,000 correct (95% interval 0.9675 to 0.9742), required at least"
        " 0.97 (9,700 correct), and so must the interval's lower bound"
    )
    assert gate.fn(
        measured(evaluation(9_740, 10_000)), new_recipe(min_accuracy=0.97, confident=True)
    ).accepted


@pytest.mark.parametrize("worst", range(10))
def test_one_digit_that_is_not_found_often_enough_is_enough_to_reject(
    new_recipe: Callable[..., Recipe], worst: int
) -> None:
    def with_found(found: int) -> Measurements:
        rows = [[0] * 10 for _ in range(10)]
        for digit in range(10):
            rows[digit][digit] = 100
        rows[worst][worst] = found
        rows[worst][(worst + 3) % 10] = 100 - found
        return measured(Evaluation(0.1, tuple(map(tuple, rows))))

    recipe = new_recipe(min_accuracy=0.9)
    assert gate.fn(with_found(80), recipe).accepted
    blind = gate.fn(with_found(79), recipe)
    assert [r.name for r in blind.rules if not r.passed] == ["digit recall"]
    assert rule(blind, "digit recall").measured == f"lowest for {worst}: 0.7900 (79 of 100)"


@pytest.mark.parametrize("missing", range(10))
def test_a_digit_that_was_never_measured_rejects_even_where_no_recall_is_asked_for(
    new_recipe: Callable[..., Recipe], missing: int
) -> None:
    rows = [[0] * 10 for _ in range(10)]
    for digit in set(range(10)) - {missing}:
        rows[digit][digit] = 100
    found = measured(Evaluation(0.1, tuple(map(tuple, rows))))
    decision = gate.fn(found, new_recipe(min_accuracy=0.0, min_recall=0.0))
    assert [r.name for r in decision.rules if not r.passed] == ["digit recall"]
    assert rule(decision, "digit recall").measured == "the test set has only 9 of 10 digits"


@pytest.mark.parametrize(
    ("trained", "golden", "passed"),
    [
        (950, 0.0, True),
        (950, 1e-4, True),
        (950, 1.01e-4, False),
        (950, 1.0, False),
        (950, math.nan, False),
        (950, math.inf, False),
        (949, 0.0, False),
        (951, 0.0, False),
    ],
)
def test_the_stored_model_has_to_answer_as_keras_did(
    new_recipe: Callable[..., Recipe], trained: int, golden: float, passed: bool
) -> None:
    found = measured(evaluation(950, 1000), golden, trained=evaluation(trained, 1000))
    decision = gate.fn(found, new_recipe())
    assert rule(decision, "faithful").passed is passed
    assert decision.accepted is passed


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_stored_model_whose_loss_is_not_finite_rejects(
    new_recipe: Callable[..., Recipe], number: float
) -> None:
    found = measured(
        evaluation(950, 1000), challenger=Score(evaluation(950, 1000, loss=number), 0.0)
    )
    decision = gate.fn(found, new_recipe())
    assert decision.reason == f"finite: test loss {number}, required finite loss and probabilities"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_loss_of_keras_that_is_not_finite_rejects_though_the_stored_models_is(
    new_recipe: Callable[..., Recipe], number: float
) -> None:
    found = measured(evaluation(950, 1000), trained=evaluation(950, 1000, loss=number))
    assert not gate.fn(found, new_recipe()).accepted


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_golden_batch_that_is_not_finite_rejects_and_the_reason_shows_it(
    new_recipe: Callable[..., Recipe], number: float
) -> None:
    decision = gate.fn(measured(evaluation(950, 1000), golden=number), new_recipe())
    assert not decision.accepted
    assert f"golden batch within {number}" in decision.reason


def test_a_stored_model_without_a_score_rejects_with_the_reason(
    new_recipe: Callable[..., Recipe],
) -> None:
    found = measured(
        evaluation(1000, 1000), challenger=NotScored("model.tflite: expected the SHA-256 ab")
    )
    decision = gate.fn(found, new_recipe(min_accuracy=0.0))
    assert not decision.accepted
    assert decision.reason == (
        "scored: model.tflite: expected the SHA-256 ab, required a stored model that answers"
    )


@pytest.mark.parametrize("minimum", [0.0, 0.5])
def test_a_test_set_without_images_rejects(
    new_recipe: Callable[..., Recipe], minimum: float
) -> None:
    decision = gate.fn(measured(evaluation(0, 0)), new_recipe(min_accuracy=minimum, min_recall=0.0))
    assert not rule(decision, "accuracy").passed
    assert not decision.accepted


def test_weights_that_a_person_rolled_back_are_not_promoted_again(
    new_recipe: Callable[..., Recipe],
) -> None:
    perfect = measured(evaluation(1000, 1000), rolled_back=ROLLBACK)
    decision = gate.fn(perfect, new_recipe())
    assert [r.name for r in decision.rules if not r.passed] == ["rollback"]
    assert decision.reason == (
        "rollback: rolled back by anna on 2026-11-02: it takes sevens for ones,"
        " required weights that were never rolled back"
    )
    silent = gate.fn(replace(perfect, rolled_back=replace(ROLLBACK, reason="")), new_recipe())
    assert rule(silent, "rollback").measured == "rolled back by anna on 2026-11-02"


def test_a_first_run_that_meets_all_other_rules_is_accepted_with_words_for_each(
    new_recipe: Callable[..., Recipe],
) -> None:
    decision = gate.fn(measured(evaluation(9_712, 10_000, 0.0954)), new_recipe(min_accuracy=0.97))
    assert decision.accepted
    assert [r.name for r in decision.rules] == NAMES
    assert [(r.required, r.measured) for r in decision.rules] == [
        ("finite loss and probabilities", "test loss 0.0954"),
        (
            "at least 0.97 (9,700 correct)",
            "9,712 of 10,000 correct (95% interval 0.9677 to 0.9744)",
        ),
        ("at least 0.8 for every digit", "lowest for 2: 0.9710 (971 of 1,000)"),
        (
            "9,712 correct as in Keras, golden batch within 0.0001",
            "9,712 correct, golden batch within 1e-07",
        ),
        ("not worse than the champion", "no champion yet"),
        ("weights that were never rolled back", "never rolled back"),
    ]
