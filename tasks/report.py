"""Report: what a person finds in the Prefect UI in the morning."""

import logging

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from storage.records import Decision
from storage.schema import Run
from tasks.measure import Measurements, Score
from tasks.record import RunInProgress

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def report(run: RunInProgress, measurements: Measurements, decision: Decision) -> None:
    """Leave the report as the artifact ``report``; a failure to do so only leaves a warning."""
    try:
        create_markdown_artifact(
            markdown=report_text(run.runs.get(run.id), measurements, decision),
            key="report",
            description=f"{run.recipe.dataset}, run {run.id}",
        )
    except Exception as error:  # noqa: BLE001 - the model is promoted or not, whatever fails here
        log.warning("the report could not be written: %s", error)


def report_text(run: Run, measurements: Measurements, decision: Decision) -> str:
    """The report in Markdown: the decision and why, the champion beside it, each digit.

    Args:
        run: The row of the run.
        measurements: What the gate decided from.
        decision: The gate's.
    """
    stored, champion = measurements.challenger, measurements.champion
    evaluation = stored.evaluation if isinstance(stored, Score) else measurements.trained
    verdict = "Promoted" if decision.accepted else "Rejected"
    lines = [
        f"# {verdict}: {evaluation.correct:,} of {evaluation.total:,} right",
        f"Run `{run.run_id}` on {run.dataset}, test loss {evaluation.loss:.4f}.",
        "",
        "| rule | required | measured | passed |",
        "| --- | --- | --- | --- |",
    ]
    for rule in decision.rules:
        passed = "yes" if rule.passed else "**no**"
        lines.append(f"| {rule.name} | {rule.required} | {rule.measured} | {passed} |")
    if isinstance(champion, Score) and measurements.only_challenger is not None:
        theirs = champion.evaluation
        lines += [
            "",
            f"| on the same images | this run | champion `{run.champion_version}` |",
            "| --- | --- | --- |",
            f"| right | {evaluation.correct:,} | {theirs.correct:,} |",
            f"| right, the other wrong | {measurements.only_challenger:,}"
            f" | {measurements.only_champion:,} |",
            f"| test loss | {evaluation.loss:.4f} | {theirs.loss:.4f} |",
        ]
    lines += [
        "",
        f"This test set has now been used for {run.test_uses:,} decision(s). Each one wears it out"
        " a little: what was chosen by it looks better on it than on other images.",
        "",
        f"Data: {run.duplicates:,} duplicates; drift from the champion's data:"
        f" pixels {_number(run.pixel_drift)}, labels {_number(run.label_drift)}.",
    ]
    lines += ["", "| digit | images | recall | precision |", "| --- | --- | --- | --- |"]
    for digit, row in enumerate(evaluation.confusion):
        recall, precision = _number(evaluation.recall[digit]), _number(evaluation.precision[digit])
        lines.append(f"| {digit} | {sum(row):,} | {recall} | {precision} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
