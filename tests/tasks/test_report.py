import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.recipe import Recipe
from storage.records import Evaluation, Pointer
from storage.tables.schema import Run
from tasks.gate import gate
from tasks.reporting import artifact_key
from tasks.reporting.text import leaderboard_text, report_text
from tasks.scoring.values import Counts, Measurements, Mistake, NotScored, Pairs, Score
from tasks.train import Epoch, LearningCurve


def evaluation(found: int, loss: float) -> Evaluation:
    """Of each digit 100 images, of which so many are found; the rest is taken for the next.

    There is no image of a 9, and so nothing is ever taken for a 0.
    """
    rows = [[0] * 10 for _ in range(10)]
    for digit in range(9):
        rows[digit][digit], rows[digit][digit + 1] = found, 100 - found
    return Evaluation(loss=loss, confusion=tuple(map(tuple, rows)))


CURVE = LearningCurve((Epoch(0.5, 0.8, 1.5), Epoch(0.25, 0.9, 1.0)))
IMAGES = np.random.default_rng(0).integers(0, 256, (900, 28, 28)).astype(np.uint8)


def row(found: Measurements, recipe: Recipe, **values: Any) -> Run:
    """A run's row, as the journal would have filled it."""
    decision = gate.fn(found, recipe)
    usual = {
        "run_id": "20260101-020000-abcdef",
        "status": "rejected",
        "dataset": "mine",
        "source": "mnist-5k",
        "started_at": datetime(2026, 1, 1, 2, tzinfo=UTC),
        "duration_s": 12.34,
        "architecture": "mlp",
        "epochs": 2,
        "batch_size": 100,
        "learning_rate": 0.001,
        "seed": 7,
        "fit_s": 2.5,
        "train_total": 360,
        "duplicates": 1234,
        "pixel_drift": 0.1234,
        "data_digest": "ef" * 32,
        "weights_digest": "ab" * 32,
        "test_uses": 1,
        "versions": {"python": "3.11.7", "keras": "3.15.1"},
        "host": "here",
    }
    return Run(**{**usual, **found.columns(), **decision.columns(), **values})


def measured(found: Evaluation, *mistakes: Mistake, **others: Any) -> Measurements:
    return Measurements("cd" * 32, found, Score(found, 1e-7, mistakes), **others)


@pytest.fixture
def reported(new_recipe: Callable[..., Recipe]) -> Callable[..., str]:
    """The report's text of a run that measured this."""

    def make(found: Measurements, **values: Any) -> str:
        written = row(found, new_recipe(min_accuracy=0.95), **values)
        return report_text(written, CURVE, found, IMAGES)

    return make


def pictures(text: str) -> dict[str, bytes]:
    """The pictures of a report by their names: PNG files in the text itself."""
    found = re.findall(r"!\[([a-z ]+)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", text)
    return {name: base64.b64decode(content) for name, content in found}


def test_the_report_shows_the_decision_every_rule_and_every_digit(reported) -> None:
    lines = reported(measured(evaluation(90, 0.12345))).splitlines()
    assert lines[0] == "# Rejected: 810 of 900 correct"
    assert lines[2] == (
        "Run `20260101-020000-abcdef` on **mine**, started 2026-01-01 02:00 UTC, took 12.3 s."
        " Failed: accuracy, digit recall."
    )
    assert "- passed **finite**: test loss 0.1235; required: finite loss and probabilities" in lines
    assert (
        "- **failed** **accuracy**: 810 of 900 correct (95% interval 0.8785 to 0.9188);"
        " required: at least 0.95 (855 correct)"
    ) in lines
    rollback = (
        "- passed **rollback**: never rolled back; required: weights that were never rolled back"
    )
    assert rollback in lines
    assert "| 0 | 100 | 90 | 0.900 | 1.000 |" in lines
    assert "| 1 | 100 | 90 | 0.900 | 0.900 |" in lines
    assert "| 9 | 0 | 0 | none | 0.000 |" in lines
    assert "champion `" not in "\n".join(lines)


def test_the_report_says_how_many_corrections_are_held_and_whose(reported) -> None:
    found = measured(evaluation(90, 0.12345))
    text = reported(found, corrections_held=1300, held_actors={"eve": 1200, "`bob`": 100})
    assert (
        "1,300 corrections are held, so the run did not learn from them: 1,200 of `eve`,"
        " 100 of `'bob'`."
    ) in text
    assert "Held corrections" not in reported(found, corrections_held=0, held_actors={})


def test_the_report_says_how_the_first_data_differs_from_mnist(reported) -> None:
    found = measured(evaluation(80, 0.5))
    assert "unlike MNIST" not in reported(found)
    text = reported(found, unlike_mnist="mirrored (left and right exchanged)")
    assert "the training data is mirrored (left and right exchanged). If this is not meant" in text


def test_what_people_choose_ends_no_item_of_a_list(reported) -> None:
    rule = {"name": "field parts", "measured": "by b\n- o", "required": "none", "passed": False}
    text = reported(measured(evaluation(90, 0.12345)), rules=[rule], source="/a\nb")
    assert "- **failed** **field parts**: by b - o; required: none\n" in text
    assert "- **data**: /a b, " in text


def test_the_report_says_how_many_that_are_not_a_digit_are_answered_surely(reported) -> None:
    found = measured(evaluation(90, 0.12345))
    surely = replace(found, challenger=replace(found.challenger, not_digits_sure=300))
    text = reported(surely, not_digits=1200)
    assert "\n\nCorrections that are not a digit: 300 of 1,200 answered surely.\n\n" in text
    beside = replace(surely, champion=replace(found.challenger, not_digits_sure=1100))
    text = reported(beside, not_digits=1200)
    assert "a digit: 300 of 1,200 answered surely, 1,100 by the champion.\n" in text
    assert "not a digit" not in reported(found, not_digits=0)


def test_the_report_says_what_the_model_does_on_images_that_were_held_out(
    reported, new_recipe: Callable[..., Recipe]
) -> None:
    found = measured(evaluation(90, 0.12345))
    assert "- **validation**" not in reported(found)
    assert (
        "- **validation**: accuracy 0.9955, loss 0.0154, on disturbed copies 0.0512; 343 of the"
        " training images, which were not trained on\n"
    ) in reported(
        found, validation_total=343, validation_accuracy=0.99552, validation_loss=0.01544,
        validation_disturbed_loss=0.05123,
    )  # fmt: skip
    both = [Epoch(0.5, 0.8, 1.5, 0.2, 0.95), Epoch(0.25, 0.9, 1.0, 0.1, 0.98)]
    text = report_text(row(found, new_recipe()), LearningCurve(tuple(both)), found, IMAGES)
    assert pictures(text)["learning curve"] != pictures(reported(found))["learning curve"]


def test_every_table_and_heading_of_the_report_has_blank_lines_around_it(reported) -> None:
    lines = reported(measured(evaluation(90, 0.12345), Mistake(3, 1, 2, 0.9))).splitlines()
    for before, line in pairwise(lines):
        starts_table = line.startswith("|") and not before.startswith("|")
        if line.startswith("#") or starts_table:
            assert before == "", line
        if before.startswith("|") and not line.startswith("|"):
            assert line == "", before


def test_the_report_says_where_the_run_comes_from_and_what_to_do(reported) -> None:
    text = reported(measured(evaluation(90, 0.12345)))
    assert "decisions so far: 1;" in text
    assert "360 training images, 1,234 duplicates, `efefefefefef`\n" in text
    assert "- **drift from the champion's data**: pixels 0.123, labels none\n" in text
    assert "learning rate 0.001, seed 7\n" in text
    assert "- **code**: none\n" in text
    assert "- **libraries**: python 3.11.7, keras 3.15.1\n" in text
    assert text.endswith(
        "The champion stays. To repeat this run: `digits retrain --like 20260101-020000-abcdef`."
    )


def test_the_pictures_are_inside_the_report_and_need_no_network(reported) -> None:
    text = reported(
        measured(evaluation(90, 0.12345), *(Mistake(index, 1, 2, 0.9) for index in range(10)))
    )
    found = pictures(text)
    assert set(found) == {"learning curve", "confusion matrix", "mistakes"}
    for content in found.values():
        image = Image.open(io.BytesIO(content))
        image.load()
        assert min(image.size) > 100
        assert len(np.unique(np.asarray(image.convert("L")))) > 20, "something is drawn on it"
    assert "http" not in text


def test_transformed_images_are_a_picture_of_their_own_with_and_without_a_champion(
    reported,
) -> None:
    found = measured(evaluation(90, 0.12345))
    counts = {"moved": Counts(300, 900), "thin": Counts(890, 900)}
    robust = replace(found, challenger=replace(found.challenger, robustness=counts))
    beside = replace(robust, champion=robust.challenger)
    alone, both = (pictures(reported(each))["robustness"] for each in (robust, beside))
    assert alone != both
    assert "robustness" not in pictures(reported(found))


def test_a_picture_that_cannot_be_drawn_leaves_the_rest_of_the_report(reported) -> None:
    # An image that is not there.
    text = reported(measured(evaluation(90, 0.12345), Mistake(len(IMAGES), 1, 2, 0.9)))
    assert set(pictures(text)) == {"learning curve", "confusion matrix"}
    assert "*The mistakes could not be drawn: " in text
    assert "## What to do" in text


def test_the_champion_stands_beside_the_challenger_with_the_change_in_both_directions(
    reported,
) -> None:
    found = measured(
        evaluation(90, 0.12345),
        champion=Score(evaluation(89, 0.23456), 1e-7),
        compared_with=Pointer(1, "20260102-000000-abcdef", "ab" * 32),
        pairs=Pairs(1020, 1011),
    )
    lines = reported(found).splitlines()
    table = lines.index(
        "| on the same images | this run | champion `20260102-000000-abcdef` | change |"
    )
    assert lines[table + 2 : table + 5] == [
        "| accuracy | 0.9000 | 0.8900 | +0.0100 |",
        "| loss | 0.1235 | 0.2346 | -0.1111 |",
        "| correct where the other is wrong | 1,020 | 1,011 | +9 |",
    ]


def test_a_promoted_run_is_reported_as_promoted_with_the_way_back(reported) -> None:
    rows = tuple(
        tuple(97 if a == b else 3 * (b == (a + 1) % 10) for b in range(10)) for a in range(10)
    )
    found = measured(Evaluation(0.1, rows))
    text = reported(found, status="promoted", generation=1)
    assert text.startswith("# Promoted: 970 of 1,000 correct\n")
    assert "**failed**" not in text
    assert "It is in use as generation 1. To repeat" in text
    second = reported(found, status="promoted", generation=2, champion_version="older")
    assert "To go back to the previous champion: `digits rollback --dataset mine`." in second


def test_the_leaderboard_is_the_newest_runs_the_most_accurate_first(
    new_recipe: Callable[..., Recipe],
) -> None:
    rows = [
        Run(run_id="third", status="running"),
        row(measured(evaluation(95, 0.1)), new_recipe(), run_id="second", status="promoted"),
        row(measured(evaluation(90, 0.12345)), new_recipe(), run_id="first"),
    ]
    lines = leaderboard_text(rows).splitlines()
    assert lines[0] == "# The last 3 runs, most accurate first"
    assert lines[4] == "| 1 | `second` | **promoted** | 0.9500 | 0.1000 | mlp | 2 | 2.5 s |"
    assert lines[5] == "| 2 | `first` | rejected | 0.9000 | 0.1235 | mlp | 2 | 2.5 s |"
    assert lines[6:] == ["", "1 more failed, were cancelled or are still running."]
    assert leaderboard_text(rows[1:]).splitlines()[-1] == lines[5]


def test_the_leaderboard_compares_runs_on_the_newest_test_set_only(
    new_recipe: Callable[..., Recipe],
) -> None:
    rows = [
        row(measured(evaluation(found, 0.1)), new_recipe(), run_id=name, test_digest=test_set)
        for name, found, test_set in [("new", 80, "b"), ("same", 90, "b"), ("old", 99, "a")]
    ]
    text = leaderboard_text(rows)
    assert text.index("`same`") < text.index("`new`")
    assert "`old`" not in text
    assert text.endswith(
        "\n1 more were measured on another test set, so their accuracy does not compare.\n"
    )


@pytest.mark.parametrize("champion", [NotScored("champion.json: expected JSON"), None])
def test_the_report_is_written_even_if_a_model_could_not_be_scored(
    reported, champion: NotScored | None
) -> None:
    found = measured(evaluation(90, 0.12345), champion=champion)
    text = reported(replace(found, challenger=NotScored("model.tflite: expected the SHA-256 ab")))
    assert text.startswith("# Rejected: 810 of 900 correct\n")
    assert "- **failed** **scored**: model.tflite: expected the SHA-256 ab;" in text


def test_a_model_whose_loss_is_not_finite_is_reported_and_so_is_one_without_weights_digest(
    reported,
) -> None:
    text = reported(measured(evaluation(90, float("nan"))), weights_digest=None)
    assert "- **failed** **finite**: test loss nan, test loss in Keras nan;" in text
    assert "**weights**: ``" not in text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("mnist", "report-mnist"),
        ("mnist-5k", "report-mnist-5k"),
        ("a.b", "report-a-b-2e7336dc"),
        ("A_b", "report-a-b-08eb65ad"),
    ],
)
def test_each_name_has_artifact_keys_of_its_own(name: str, key: str) -> None:
    assert artifact_key("report", name) == key
    assert re.fullmatch("[a-z0-9-]+", key)
