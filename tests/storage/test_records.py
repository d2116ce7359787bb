import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records import Decision, Evaluation, Rule

PROJECT = Path(__file__).resolve().parents[2]
COUNTS = st.lists(st.integers(0, 60), min_size=10, max_size=10).map(tuple)


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
def test_a_non_finite_loss_is_none_in_a_table(loss: float) -> None:
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


def test_records_and_errors_need_nothing_but_the_standard_library() -> None:
    # -S leaves out the installed packages, -I the environment.
    program = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import storage.records"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
