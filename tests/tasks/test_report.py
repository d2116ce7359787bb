import base64
import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from storage.recipe import Recipe
from storage.records import Evaluation, Status
from storage.settings import Settings
from tasks.gate import gate
from tasks.promote import promote
from tasks.record import RunInProgress
from tasks.report import leaderboard_text, report_text
from tasks.scoring.measure import Measurements, Mistake, Score
from tasks.train import Epoch
from tasks.validate import DataCheck


def evaluation(found: int, loss: float) -> Evaluation:
    """Of each digit 100 images, of which so many are found; the rest is taken for the next.

    There is no image of a 9, and so nothing is ever taken for a 0.
    """
    rows = [[0] * 10 for _ in range(10)]
    for digit in range(9):
        rows[digit][digit], rows[digit][digit + 1] = found, 100 - found
    return Evaluation(loss=loss, confusion=tuple(map(tuple, rows)))


@pytest.fixture
def run(settings: Settings, new_recipe: Callable[..., Recipe]) -> RunInProgress:
    begun = RunInProgress(new_recipe(name="mine", min_accuracy=0.95), settings)
    begun.checked(DataCheck("cd" * 32, 1234, {}, pixel_drift=0.1234, label_drift=None))
    begun.staged("ab" * 32)
    begun.note(train_total=360)
    return begun


CURVE = [Epoch(0.5, 0.8, 1.5), Epoch(0.25, 0.9, 1.0)]
IMAGES = np.random.default_rng(0).integers(0, 256, (900, 28, 28)).astype(np.uint8)


def reported(run: RunInProgress, found: Measurements, status: Status = Status.REJECTED) -> str:
    decision = gate.fn(found, run.recipe)
    run.decided(found, decision)
    run.finish(status, decision.reason)
    return report_text(run.runs.get(run.id), CURVE, found, decision, IMAGES)


def pictures(text: str) -> dict[str, bytes]:
    """The pictures of a report by their names: PNG files in the text itself."""
    found = re.findall(r"!\[([a-z ]+)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", text)
    return {name: base64.b64decode(content) for name, content in found}


def test_the_report_shows_the_decision_every_rule_and_every_digit(run: RunInProgress) -> None:
    measured = evaluation(90, 0.12345)
    lines = reported(run, Measurements(measured, Score(measured, 1e-7))).splitlines()
    assert lines[0] == "# Rejected: 810 of 900 right"
    assert lines[2].startswith(f"Run `{run.id}` on **mine**, started ")
    assert lines[2].endswith(" Against it: accuracy, digit recall.")
    assert "| passed | finite | test loss 0.1235 | finite answers and loss |" in lines
    assert (
        "| **failed** | accuracy | 810 of 900 right (95 % interval 0.8785 to 0.9188) |"
        " at least 0.95 (855) |"
    ) in lines
    assert "| passed | rollback | nobody has | weights that nobody has rolled back |" in lines
    assert "| 0 | 100 | 90 | 0.900 | 1.000 |" in lines
    assert "| 1 | 100 | 90 | 0.900 | 0.900 |" in lines
    assert "| 9 | 0 | 0 | none | 0.000 |" in lines
    assert "champion `" not in "\n".join(lines)


def test_the_report_says_where_the_run_comes_from_and_what_to_do(run: RunInProgress) -> None:
    measured = evaluation(90, 0.12345)
    text = reported(run, Measurements(measured, Score(measured, 1e-7)))
    assert "used for 1 decision(s)" in text
    assert "1,234 images twice" in text
    assert "| drift from the champion's data | pixels 0.123, labels none |" in text
    assert f"seed {run.recipe.seed}" in text
    assert f"`digits retrain --like {run.id}`" in text
    assert "The model in use stays." in text


def test_the_pictures_are_inside_the_report_and_need_no_network(run: RunInProgress) -> None:
    measured = evaluation(90, 0.12345)
    mistakes = tuple(Mistake(index, 1, 2, 0.9) for index in range(10))
    text = reported(run, Measurements(measured, Score(measured, 1e-7, mistakes)))
    found = pictures(text)
    assert set(found) == {"learning curve", "confusion matrix", "mistakes"}
    for content in found.values():
        image = Image.open(io.BytesIO(content))
        image.load()
        assert min(image.size) > 100
        assert len(np.unique(np.asarray(image.convert("L")))) > 20, "something is drawn on it"
    assert "http" not in text


def test_a_picture_that_cannot_be_drawn_leaves_the_rest_of_the_report(run: RunInProgress) -> None:
    measured = evaluation(90, 0.12345)
    beyond = (Mistake(len(IMAGES), 1, 2, 0.9),)  # an image that is not there
    text = reported(run, Measurements(measured, Score(measured, 1e-7, beyond)))
    assert set(pictures(text)) == {"learning curve", "confusion matrix"}
    assert "*The mistakes could not be drawn: " in text
    assert "## What to do" in text


def test_the_champion_stands_beside_the_challenger_with_the_change_in_both_directions(
    run: RunInProgress,
) -> None:
    ours, theirs = evaluation(90, 0.12345), evaluation(89, 0.23456)
    digest = run.store.stage("20260102-000000-abcdef", lambda folder: None, {})
    swap = run.store.promote("20260102-000000-abcdef", digest, None, actor="test", reason="")
    found = Measurements(
        ours,
        Score(ours, 1e-7),
        champion=Score(theirs, 1e-7),
        compared_with=swap.pointer,
        only_challenger=1020,
        only_champion=1011,
    )
    lines = reported(run, found).splitlines()
    table = lines.index(
        "| on the same images | this run | champion `20260102-000000-abcdef` | change |"
    )
    assert lines[table + 2 : table + 5] == [
        "| accuracy | 0.9000 | 0.8900 | +0.0100 |",
        "| loss | 0.1235 | 0.2346 | -0.1111 |",
        "| right, the other wrong | 1,020 | 1,011 | +9 |",
    ]


def test_a_promoted_run_is_reported_as_promoted(run: RunInProgress) -> None:
    rows = tuple(
        tuple(97 if a == b else 3 * (b == (a + 1) % 10) for b in range(10)) for a in range(10)
    )
    measured = Evaluation(0.1, rows)
    found = Measurements(measured, Score(measured, 1e-7))
    decision = gate.fn(found, run.recipe)
    assert decision.accepted
    run.candidate_digest = run.store.stage(run.id, lambda folder: None, run.lineage)
    promote.fn(run, found, decision)
    text = report_text(run.runs.get(run.id), CURVE, found, decision, IMAGES)
    assert text.startswith("# Promoted: 970 of 1,000 right\n")
    assert "**failed**" not in text
    assert "It is in use as generation 1." in text


def test_the_leaderboard_is_the_newest_runs_the_most_accurate_first(
    run: RunInProgress, settings: Settings, new_recipe: Callable[..., Recipe]
) -> None:
    measured = evaluation(90, 0.12345)
    reported(run, Measurements(measured, Score(measured, 1e-7)))
    better = RunInProgress(new_recipe(name="mine"), settings)
    better.checked(DataCheck("cd" * 32, 0, {}, None, None))
    better.staged("ef" * 32)
    better.note(train_total=360)
    more = evaluation(95, 0.1)
    reported(better, Measurements(more, Score(more, 1e-7)))
    RunInProgress(new_recipe(name="mine"), settings)

    lines = leaderboard_text(run.runs.newest(30, name="mine")).splitlines()
    assert lines[0] == "# The last 3 runs, the most accurate first"
    assert lines[4].startswith(f"| 1 | `{better.id}` | rejected | 0.9500 | 0.1000 | mlp |")
    assert lines[5].startswith(f"| 2 | `{run.id}` | rejected | 0.9000 | 0.1235 | mlp |")
    assert lines[-1] == "1 more failed, were cancelled or are running."


@pytest.mark.parametrize("champion", ["champion.json: expected JSON", None])
def test_where_a_model_could_not_be_scored_the_report_is_written_all_the_same(
    run: RunInProgress, champion: str | None
) -> None:
    trained = evaluation(90, 0.12345)
    found = Measurements(trained, "model.tflite: expected the SHA-256 ab", champion=champion)
    text = reported(run, found)
    assert text.startswith("# Rejected: 810 of 900 right\n")
    assert "| **failed** | scored | model.tflite: expected the SHA-256 ab |" in text
