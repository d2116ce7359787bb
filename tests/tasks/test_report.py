from collections.abc import Callable

from storage.records import Evaluation, Recipe
from storage.settings import Settings
from tasks.gate import gate
from tasks.record import RunInProgress
from tasks.report import report_text


def test_the_report_shows_the_decision_every_rule_and_every_digit(
    settings: Settings, new_recipe: Callable[..., Recipe]
) -> None:
    # Of each digit 100 images, of which 90 are seen; the rest is taken for the next digit.
    # There is no image of a 9, and so nothing is ever taken for a 0.
    rows = [[0] * 10 for _ in range(10)]
    for digit in range(9):
        rows[digit][digit], rows[digit][digit + 1] = 90, 10
    evaluation = Evaluation(loss=0.12345, confusion=tuple(map(tuple, rows)))
    run = RunInProgress(new_recipe(dataset="mine"), settings)

    rejected = report_text(run, evaluation, gate.fn(evaluation, 0.95)).splitlines()
    assert rejected[0] == "# Rejected: 810 of 900 right"
    assert rejected[1] == f"Run `{run.id}` on mine, test loss 0.1235."
    assert "| finite | a finite number | test loss 0.1235 | yes |" in rejected
    assert "| accuracy | at least 0.95 (855) | 810 of 900 right | **no** |" in rejected
    assert "| 0 | 100 | 0.900 | 1.000 |" in rejected
    assert "| 1 | 100 | 0.900 | 0.900 |" in rejected
    assert "| 9 | 0 | none | 0.000 |" in rejected

    promoted = report_text(run, evaluation, gate.fn(evaluation, 0.9)).splitlines()
    assert promoted[0] == "# Promoted: 810 of 900 right"
    assert "**no**" not in "".join(promoted)
