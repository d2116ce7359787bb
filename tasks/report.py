"""Report: what a person finds in the Prefect UI in the morning."""

import logging

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from storage.records import Decision, Evaluation
from tasks.record import RunInProgress

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def report(run: RunInProgress, evaluation: Evaluation, decision: Decision) -> None:
    """Leave the report as the artifact ``report``; a failure to do so only leaves a warning."""
    try:
        create_markdown_artifact(
            markdown=report_text(run, evaluation, decision),
            key="report",
            description=f"{run.recipe.dataset}, run {run.id}",
        )
    except Exception as error:  # noqa: BLE001 - the model is promoted or not, whatever fails here
        log.warning("the report could not be written: %s", error)


def report_text(run: RunInProgress, evaluation: Evaluation, decision: Decision) -> str:
    """The report in Markdown: the decision and why, then each digit."""
    verdict = "Promoted" if decision.accepted else "Rejected"
    lines = [
        f"# {verdict}: {evaluation.correct:,} of {evaluation.total:,} right",
        f"Run `{run.id}` on {run.recipe.dataset}, test loss {evaluation.loss:.4f}.",
        "",
        "| rule | required | measured | passed |",
        "| --- | --- | --- | --- |",
    ]
    for rule in decision.rules:
        passed = "yes" if rule.passed else "**no**"
        lines.append(f"| {rule.name} | {rule.required} | {rule.measured} | {passed} |")
    lines += ["", "| digit | images | recall | precision |", "| --- | --- | --- | --- |"]
    for digit, row in enumerate(evaluation.confusion):
        recall, precision = _share(evaluation.recall[digit]), _share(evaluation.precision[digit])
        lines.append(f"| {digit} | {sum(row):,} | {recall} | {precision} |")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
