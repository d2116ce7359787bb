import math
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.errors import InvalidParameterError
from storage.records import (
    BATCH_SIZE,
    EPOCHS,
    LEARNING_RATE,
    SEED,
    SHARE,
    Bounds,
    Decision,
    Evaluation,
    Recipe,
    Rule,
)

PROJECT = Path(__file__).resolve().parents[2]
NAME_CHARACTERS = string.ascii_letters + string.digits + "._-"
COUNTS = st.lists(st.integers(0, 60), min_size=10, max_size=10).map(tuple)


@pytest.mark.parametrize("bounds", [EPOCHS, BATCH_SIZE, LEARNING_RATE, SEED, SHARE])
@given(value=st.floats() | st.integers())
@example(math.nan)
@example(math.inf)
@example(-math.inf)
@example(10**400)
@example(0)
@example(1)
@example(2**32 - 1)
@example(2**32)
def test_bounds_let_in_exactly_what_lies_between_them(bounds: Bounds, value: float) -> None:
    if bounds.low <= value <= bounds.high:
        bounds.check("seed", value)
    else:
        with pytest.raises(InvalidParameterError, match=r"^seed: expected .*, received .*$"):
            bounds.check("seed", value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("epochs", 0),
        ("epochs", 1001),
        ("batch_size", 0),
        ("batch_size", 65537),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", 1.1),
        ("seed", -1),
        ("seed", 2**32),
        ("min_accuracy", -0.1),
        ("min_accuracy", 1.5),
        ("min_accuracy", math.nan),
        ("min_accuracy", math.inf),
        ("architecture", "resnet"),
    ],
)
def test_recipe_refuses_a_value_out_of_bounds_and_says_which(
    new_recipe: Callable[..., Recipe], parameter: str, value: object
) -> None:
    with pytest.raises(InvalidParameterError) as refused:
        new_recipe(**{parameter: value})
    message = str(refused.value)
    assert message.startswith(f"{parameter}: expected ")
    assert f"received {value!r}" in message
    assert "\n" not in message
    assert refused.value.exit_code == 2


@given(name=st.text(max_size=70) | st.text(NAME_CHARACTERS + "/ \n\x00é", max_size=70))
@example("a" * 64)
@example("a" * 65)
@example("a\n")
@example("..")
@example("٣")
def test_recipe_takes_a_name_only_if_it_is_one_safe_part_of_a_path(
    new_recipe: Callable[..., Recipe], name: str
) -> None:
    safe = (
        1 <= len(name) <= 64
        and all(character in NAME_CHARACTERS for character in name)
        and name[0] not in "._-"
    )
    if safe:
        assert new_recipe(dataset=name).dataset == name
        assert Path("/models", name).resolve().parent == Path("/models")
    else:
        with pytest.raises(InvalidParameterError, match=r"^name: expected .*--name$"):
            new_recipe(dataset=name)


@given(confusion=st.lists(COUNTS, min_size=10, max_size=10).map(tuple))
def test_evaluation_counts_what_its_confusion_holds(confusion: tuple[tuple[int, ...], ...]) -> None:
    pairs = [
        (true, said)
        for true, row in enumerate(confusion)
        for said, count in enumerate(row)
        for _ in range(count)
    ]
    evaluation = Evaluation(loss=0.1, confusion=confusion)
    assert evaluation.total == len(pairs)
    assert evaluation.correct == sum(true == said for true, said in pairs)
    for digit in range(10):
        of_digit = [said == digit for true, said in pairs if true == digit]
        answered = [true == digit for true, said in pairs if said == digit]
        assert evaluation.recall[digit] == (sum(of_digit) / len(of_digit) if of_digit else None)
        assert evaluation.precision[digit] == (sum(answered) / len(answered) if answered else None)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_none_for_a_table(loss: float) -> None:
    assert Evaluation(loss, confusion=((1,),)).finite_loss is None
    assert Evaluation(0.25, confusion=((1,),)).finite_loss == 0.25


def test_a_decision_without_rules_accepts_nothing() -> None:
    assert not Decision(rules=()).accepted


def test_a_decision_gives_as_its_reason_the_rules_that_failed() -> None:
    finite = Rule("finite", required="a finite number", measured="test loss 0.1", passed=True)
    good = Rule("accuracy", required="at least 0.4", measured="5 of 10 right", passed=True)
    bad = Rule("accuracy", required="at least 0.97", measured="5 of 10 right", passed=False)
    assert Decision((finite, good)).accepted
    # Of what passed, what people ask about.
    assert Decision((finite, good)).reason == "5 of 10 right"
    assert not Decision((finite, bad)).accepted
    assert Decision((finite, bad)).reason == "accuracy: 5 of 10 right, required at least 0.97"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"min_recall": 1.01}, "min_recall: expected a number from 0 to 1"),
        ({"min_recall": math.nan}, "min_recall"),
        ({"max_drift": -0.1}, "max_drift"),
        ({"champion_rule": "best"}, "champion_rule: expected one of not-worse, better, non-inf"),
        ({"champion_rule": "non-inferior", "margin": -1}, "margin: expected a whole number"),
        ({"margin": 1}, "margin: expected 0 with the champion rule not-worse"),
    ],
)
def test_a_recipe_refuses_what_the_gate_cannot_ask_for(new_recipe, values, said) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        new_recipe(**values)


def test_records_and_errors_need_nothing_but_the_standard_library() -> None:
    # -S leaves out the installed packages, -I the environment.
    program = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import storage.records"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
