from collections.abc import Callable
from dataclasses import replace

import pytest

from storage.records import Evaluation, Recipe
from storage.settings import Settings
from tasks.gate import gate
from tasks.measure import Measurements, Score
from tasks.promote import promote
from tasks.record import RunInProgress
from tasks.report import report_text
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
    begun = RunInProgress(new_recipe(dataset="mine", min_accuracy=0.95), settings)
    begun.checked(DataCheck("cd" * 32, 1234, {}, pixel_drift=0.1234, label_drift=None))
    begun.staged("ab" * 32)
    return begun


def reported(run: RunInProgress, found: Measurements) -> list[str]:
    decision = gate.fn(found, run.recipe)
    run.decided(found, decision)
    return report_text(run.runs.get(run.id), found, decision).splitlines()


def test_the_report_shows_the_decision_every_rule_and_every_digit(run: RunInProgress) -> None:
    measured = evaluation(90, 0.12345)
    lines = reported(run, Measurements(measured, Score(measured, 1e-7)))
    assert lines[0] == "# Rejected: 810 of 900 right"
    assert lines[1] == f"Run `{run.id}` on mine, test loss 0.1235."
    assert "| finite | finite answers and loss | test loss 0.1235 | yes |" in lines
    assert (
        "| accuracy | at least 0.95 (855) | 810 of 900 right (95 % interval 0.8785 to 0.9188) |"
        " **no** |"
    ) in lines
    assert "| rollback | weights that nobody has rolled back | nobody has | yes |" in lines
    assert "| 0 | 100 | 0.900 | 1.000 |" in lines
    assert "| 1 | 100 | 0.900 | 0.900 |" in lines
    assert "| 9 | 0 | none | 0.000 |" in lines
    assert "champion `" not in "\n".join(lines)


def test_the_report_says_how_often_the_test_set_was_used_and_what_the_data_is_like(
    run: RunInProgress,
) -> None:
    measured = evaluation(90, 0.12345)
    text = "\n".join(reported(run, Measurements(measured, Score(measured, 1e-7))))
    assert "This test set has now been used for 1 decision(s)." in text
    assert (
        "Data: 1,234 duplicates; drift from the champion's data: pixels 0.123, labels none." in text
    )


def test_the_champion_stands_beside_the_challenger_on_the_same_images(
    run: RunInProgress,
) -> None:
    ours, theirs = evaluation(90, 0.12345), evaluation(89, 0.23456)
    run.store.stage("20260101-000000-abcdef", lambda folder: None, {})
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
    lines = reported(run, found)
    table = lines.index("| on the same images | this run | champion `20260102-000000-abcdef` |")
    assert lines[table + 2 : table + 5] == [
        "| right | 810 | 801 |",
        "| right, the other wrong | 1,020 | 1,011 |",
        "| test loss | 0.1235 | 0.2346 |",
    ]


def test_a_promoted_run_is_reported_as_promoted(
    settings: Settings, new_recipe: Callable[..., Recipe], run: RunInProgress
) -> None:
    rows = tuple(
        tuple(97 if a == b else 3 * (b == (a + 1) % 10) for b in range(10)) for a in range(10)
    )
    measured = Evaluation(0.1, rows)
    found = Measurements(measured, Score(measured, 1e-7))
    decision = gate.fn(found, run.recipe)
    assert decision.accepted
    run.candidate_digest = run.store.stage(run.id, lambda folder: None, run.lineage)
    promote.fn(run, found, decision)
    lines = report_text(run.runs.get(run.id), found, decision).splitlines()
    assert lines[0] == "# Promoted: 970 of 1,000 right"
    assert "**no**" not in "".join(lines)


@pytest.mark.parametrize("champion", ["champion.json: expected JSON", None])
def test_where_a_model_could_not_be_scored_the_report_is_written_all_the_same(
    run: RunInProgress, champion: str | None
) -> None:
    trained = evaluation(90, 0.12345)
    found = Measurements(trained, "model.tflite: expected the SHA-256 ab", champion=champion)
    lines = reported(run, found)
    assert lines[0] == "# Rejected: 810 of 900 right"
    assert any("model.tflite: expected the SHA-256 ab | **no** |" in line for line in lines)
    scored = replace(found, challenger=Score(trained, 1e-7))
    assert ("cannot be scored" in "\n".join(reported(run, scored))) == (champion is not None)


def test_a_challenger_without_a_score_beside_a_champion_with_one_is_reported_too(
    run: RunInProgress,
) -> None:
    trained = evaluation(90, 0.12345)
    found = Measurements(trained, "it is damaged", champion=Score(trained, 1e-7))
    assert "# Rejected: 810 of 900 right" in reported(run, found)
