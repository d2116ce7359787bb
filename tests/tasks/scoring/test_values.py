"""The values of a run fill columns of ``runs``, and never with a number that is not finite."""

import math
from dataclasses import replace

import pytest

from storage.provenance import Provenance
from storage.records import Decision, Evaluation, Pointer
from storage.tables.schema import Run
from tasks.corrections import Corrected
from tasks.scoring.values import (
    Counts,
    Measurements,
    NotScored,
    Pairs,
    Score,
    usable,
)
from tasks.stage import Candidate
from tasks.train import Epoch, LearningCurve, Trained
from tasks.validate import DataCheck

EVALUATION = Evaluation(0.25, ((9, 1), (0, 10)))
SCORE = Score(EVALUATION, 1e-7, field=Counts(3, 4))
MEASURED = Measurements(
    "cd" * 32,
    EVALUATION,
    SCORE,
    champion=replace(SCORE, evaluation=Evaluation(0.5, ((8, 2), (0, 10)))),
    compared_with=Pointer(1, "older", "ab" * 32),
    pairs=Pairs(2, 1),
)


@pytest.mark.parametrize(
    "value",
    [
        MEASURED,
        Decision(()),
        Candidate("run", "ab" * 32, "cd" * 32),
        Trained(None, LearningCurve((Epoch(0.5, 0.8, 1.0),)), "float32"),
        DataCheck(0, {}, None, None),
        Provenance(None, None, {}, "here", {}, None),
    ],
)
def test_every_value_fills_columns_that_the_table_has(value) -> None:
    assert set(value.columns()) <= set(Run.__table__.columns.keys())


def test_the_columns_of_a_comparison_hold_both_counts_and_the_pairs() -> None:
    columns = MEASURED.columns()
    assert (columns["test_correct"], columns["test_total"]) == (19, 20)
    assert (columns["test_loss"], columns["test_accuracy"]) == (0.25, 0.95)
    assert (columns["champion_version"], columns["champion_correct"]) == ("older", 18)
    assert columns["only_challenger_correct"] == 2
    assert columns["only_champion_correct"] == 1
    assert (columns["field_correct"], columns["champion_field_correct"]) == (3, 3)
    assert columns["test_digest"] == "cd" * 32


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_counts_from_non_finite_answers_are_empty(loss: float) -> None:
    bad = replace(SCORE, evaluation=replace(EVALUATION, loss=loss))
    challenger = replace(MEASURED, challenger=bad).columns()
    for name in ("test_loss", "test_correct", "field_correct", "only_challenger_correct"):
        assert challenger[name] is None
    assert challenger["champion_correct"] == 18
    champion = replace(MEASURED, champion=bad).columns()
    for name in ("champion_correct", "champion_field_correct", "only_champion_correct"):
        assert champion[name] is None
    assert champion["test_correct"] == 19


def test_a_second_comparison_overwrites_every_column_of_the_first() -> None:
    unscored = Measurements("cd" * 32, EVALUATION, NotScored("damaged"), NotScored("damaged"))
    assert set(unscored.columns()) == set(MEASURED.columns())
    assert unscored.columns()["test_correct"] == 19, "the model in memory was measured"
    assert unscored.columns()["champion_correct"] is None


def test_a_failure_never_becomes_a_number() -> None:
    assert usable(SCORE) is SCORE
    assert usable(None) == NotScored("it was not measured")
    assert usable(NotScored("damaged")) == NotScored("damaged")
    for off in (math.nan, 1.1e-4):
        assert usable(replace(SCORE, golden_difference=off)).reason.startswith("its golden batch")
    assert usable(replace(SCORE, golden_difference=1e-4)) == replace(SCORE, golden_difference=1e-4)


def test_corrections_fill_no_column_unless_the_recipe_asks_for_them() -> None:
    assert Corrected(dataset=None).columns() == {}
