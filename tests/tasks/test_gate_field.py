"""The gate's rule about the field set: corrections that were never trained on."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.recipe import Recipe
from storage.records import Evaluation, Pointer, Rule
from tasks.gate import gate
from tasks.scoring.values import FieldScore, Measurements, NotScored, Pairs, Score
from tasks.scoring.worker import StoredModel, score_models

SEEN = Pointer(4, "20261101-020000-abcdef", "ab" * 32)
EVALUATION = Evaluation(
    0.1, tuple(tuple(100 if row == column else 0 for column in range(10)) for row in range(10))
)


def measured(ours: int | None, theirs: int | str | None, total: int) -> Measurements:
    """Both right about every test image; of the field set right about so many."""

    def scored(correct: int | str | None) -> Score | NotScored:
        if isinstance(correct, str):
            return NotScored(correct)
        field = None if correct is None else FieldScore(correct, total)
        return Score(EVALUATION, 0.0, field=field)

    return Measurements(
        "cd" * 32, EVALUATION, scored(ours), scored(theirs), None, SEEN, Pairs(0, 0)
    )


def rule(measurements: Measurements, recipe: Recipe) -> Rule | None:
    found = [rule for rule in gate.fn(measurements, recipe).rules if rule.name == "field"]
    return found[0] if found else None


@given(ours=st.integers(0, 80), theirs=st.integers(0, 80))
def test_the_challenger_is_not_worse_than_the_champion_on_it(
    new_recipe: Callable[..., Recipe], ours: int, theirs: int
) -> None:
    measurements = measured(ours, theirs, total=80)
    found = rule(measurements, new_recipe())
    assert found is not None
    assert found.passed == (ours >= theirs)
    assert found.measured == f"{ours} of 80 correct vs. {theirs} for the champion"
    assert gate.fn(measurements, new_recipe()).accepted == found.passed


def test_of_fewer_than_fifty_it_says_how_many_and_rejects_none(new_recipe) -> None:
    found = rule(measured(0, 49, total=49), new_recipe())
    assert found is not None
    assert found.passed
    assert found.measured == "0 of 49 correct: too few to decide"
    enough = rule(measured(0, 50, total=50), new_recipe())
    assert enough is not None
    assert not enough.passed


def test_without_corrections_there_is_no_such_rule(new_recipe) -> None:
    assert rule(measured(None, None, total=0), new_recipe()) is None


@pytest.mark.parametrize("theirs", ["it is damaged", None])
def test_a_champion_that_was_not_scored_on_it_rejects(new_recipe, theirs) -> None:
    found = rule(measured(60, theirs, total=60), new_recipe())
    assert found is not None
    assert not found.passed


def test_without_a_champion_it_passes(new_recipe) -> None:
    challenger = Score(EVALUATION, 0.0, field=FieldScore(3, 60))
    found = rule(Measurements("cd" * 32, EVALUATION, challenger), new_recipe())
    assert found is not None
    assert found.passed


def test_the_scoring_process_counts_the_answers_of_the_stored_bytes(
    tmp_path, tiny_model, settings
) -> None:
    from storage.models.classifier import load_classifier
    from storage.models.versions import write_version

    digest = write_version(tmp_path / "run", "run", tiny_model, {})
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28)).astype(np.uint8)
    labels = np.arange(60) % 10
    answers = load_classifier(tmp_path / "run", digest).probabilities(images).argmax(axis=1)

    models = {"challenger": StoredModel(tmp_path / "run", digest)}
    found = score_models(models, images, labels, images[:55], labels[:55])

    right = int((answers[:55] == labels[:55]).sum())
    assert found.scores["challenger"].field == FieldScore(right, 55)
