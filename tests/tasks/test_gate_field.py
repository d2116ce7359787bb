"""The gate's rules about the field set: corrections that were never trained on."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.recipe import Recipe
from storage.records import Evaluation, Pointer, Rule
from tasks.gate import gate
from tasks.scoring.values import Counts, Measurements, NotScored, Pairs, Score
from tasks.scoring.worker import Asked, StoredModel, score_models

SEEN = Pointer(4, "20261101-020000-abcdef", "ab" * 32)
EVALUATION = Evaluation(
    0.1, tuple(tuple(100 if row == column else 0 for column in range(10)) for row in range(10))
)


def measured(ours: int | None, theirs: int | str | None, total: int) -> Measurements:
    """Both right about every test image; of the field set right about so many."""

    def scored(correct: int | str | None) -> Score | NotScored:
        if isinstance(correct, str):
            return NotScored(correct)
        field = None if correct is None else Counts(correct, total)
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
    challenger = Score(EVALUATION, 0.0, field=Counts(3, 60))
    found = rule(Measurements("cd" * 32, EVALUATION, challenger), new_recipe())
    assert found is not None
    assert found.passed


def parts_rule(field_pairs: dict[str, Pairs], recipe: Recipe) -> Rule | None:
    scored = Score(EVALUATION, 0.0, field=Counts(70, 100))
    measurements = Measurements(
        "cd" * 32, EVALUATION, scored, scored, None, SEEN, Pairs(0, 0), field_pairs=field_pairs
    )
    found = [rule for rule in gate.fn(measurements, recipe).rules if rule.name == "field parts"]
    return found[0] if found else None


def test_one_digit_given_up_for_another_rejects_though_the_total_is_better(new_recipe) -> None:
    pairs = {
        "digit 1": Pairs(only_challenger=70, only_champion=0),
        "digit 7": Pairs(only_challenger=0, only_champion=30),
        "by anna": Pairs(only_challenger=70, only_champion=30),
    }
    found = parts_rule(pairs, new_recipe())
    assert found is not None
    assert not found.passed
    expected = "digit 7: only challenger right: 0, only champion right: 30, p = 9.31e-10"
    assert found.measured == expected


def test_what_one_person_sent_is_not_given_up_for_what_others_did(new_recipe) -> None:
    pairs = {"digit 7": Pairs(20, 6), "by anna": Pairs(20, 0), "by bob": Pairs(0, 6)}
    found = parts_rule(pairs, new_recipe())
    assert found is not None
    assert not found.passed
    assert found.measured.startswith("by bob: ")


@pytest.mark.parametrize(("ours", "theirs"), [(0, 4), (1, 6), (10, 18), (0, 0), (9, 0)])
def test_a_difference_that_chance_explains_blocks_no_promotion(new_recipe, ours, theirs) -> None:
    found = parts_rule({"digit 7": Pairs(ours, theirs)}, new_recipe())
    assert found is not None
    assert found.passed


@pytest.mark.parametrize(("ours", "theirs"), [(0, 5), (1, 7), (10, 20)])
def test_a_difference_beyond_chance_does(new_recipe, ours, theirs) -> None:
    found = parts_rule({"digit 7": Pairs(ours, theirs)}, new_recipe())
    assert found is not None
    assert not found.passed


def test_without_a_field_set_there_is_no_rule_about_its_parts(new_recipe) -> None:
    assert parts_rule({}, new_recipe()) is None


def test_the_scoring_process_counts_the_answers_of_the_stored_bytes(
    tmp_path, tiny_model, settings
) -> None:
    from storage.models.classifier import load_classifier
    from storage.models.versions import write_version

    digest = write_version(tmp_path / "run", "run", tiny_model, {})
    images = np.random.default_rng(0).integers(0, 256, (60, 28, 28)).astype(np.uint8)
    labels = np.arange(60) % 10
    answers = load_classifier(tmp_path / "run", digest).probabilities(images).argmax(axis=1)

    model = StoredModel(tmp_path / "run", digest)
    actors = np.array(["anna", "bob"] * 30)[:55]
    models = {"challenger": model, "champion": model}
    asked = Asked(
        images, labels, images[:55], labels[:55], actors, images[:10], labels[:10], images[:0]
    )
    found = score_models(models, asked)

    right = int((answers[:55] == labels[:55]).sum())
    assert found.scores["challenger"].field == Counts(right, 55)
    parts = {*(f"digit {digit}" for digit in range(10)), "by anna", "by bob"}
    assert found.field_pairs == dict.fromkeys(parts, Pairs(0, 0))
