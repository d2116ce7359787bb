"""Report: what a person finds in the morning, in the Prefect UI and as a file."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from storage.records import Decision, Evaluation
from storage.tables.schema import Run
from tasks.data.dataset import Dataset
from tasks.record import RunInProgress
from tasks.reporting.plots import confusion_matrix, contact_sheet, learning_curve
from tasks.scoring.measure import Measurements, Score
from tasks.train import Epoch

LEADERBOARD_RUNS = 30

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def report(
    run: RunInProgress,
    dataset: Dataset,
    curve: Sequence[Epoch],
    measurements: Measurements,
    decision: Decision,
) -> None:
    """Leave the artifacts ``report`` and ``leaderboard``, and the report as a file.

    What fails here only leaves a warning: the model is promoted or not, whatever is drawn.
    """
    try:
        row = run.runs.get(run.id)
        text = report_text(row, curve, measurements, decision, dataset.test_images)
        run.write_report(text)
        create_markdown_artifact(text, key="report", description=f"{row.dataset}, run {run.id}")
        rows = run.runs.newest(LEADERBOARD_RUNS, name=row.dataset)
        create_markdown_artifact(leaderboard_text(rows), key="leaderboard", description=row.dataset)
    except Exception as error:  # noqa: BLE001
        log.warning("the report could not be written: %s", error)


def report_text(
    run: Run,
    curve: Sequence[Epoch],
    measurements: Measurements,
    decision: Decision,
    test_images: NDArray[np.uint8],
) -> str:
    """The report in Markdown, with its pictures inside.

    Args:
        run: The row of the run.
        curve: Its learning curve.
        measurements: What the gate decided from.
        decision: The gate's.
        test_images: uint8, shape (n, 28, 28); the surest mistakes among them are shown.
    """
    stored = measurements.challenger
    score = stored if isinstance(stored, Score) else Score(measurements.trained, float("nan"))
    evaluation = score.evaluation
    parts = [
        f"# {run.status.capitalize()}: {evaluation.correct:,} of {evaluation.total:,} right",
        f"Run `{run.run_id}` on **{run.dataset}**, started {run.started_at:%Y-%m-%d %H:%M} UTC,"
        f" took {_number(run.duration_s, 1)} s.{_against(decision)}",
        _rules(decision),
        _comparison(run, evaluation, measurements),
        _picture("learning curve", lambda: learning_curve(curve)),
        _picture("confusion matrix", lambda: confusion_matrix(evaluation)),
    ]
    if score.mistakes:
        parts += [
            "## Wrong, and sure of it",
            _picture("mistakes", lambda: contact_sheet(test_images, score.mistakes)),
        ]
    parts += ["## Digit by digit", _digits(evaluation), "## Where it comes from", _origin(run)]
    parts += ["## What to do", _what_to_do(run)]
    return "\n\n".join(part for part in parts if part)


def leaderboard_text(rows: Sequence[Run]) -> str:
    """The newest runs of a dataset in Markdown, the most accurate first.

    Args:
        rows: Newest first.
    """
    measured = [row for row in rows if row.test_accuracy is not None]
    measured.sort(key=lambda row: (-(row.test_accuracy or 0), row.test_loss or 0))
    others = len(rows) - len(measured)
    lines = [
        f"# The last {len(rows)} runs, the most accurate first",
        "",
        "| | run | status | accuracy | loss | network | epochs | training |",
        "| --: | --- | --- | --: | --: | --- | --: | --: |",
    ]
    for place, row in enumerate(measured, start=1):
        lines.append(
            f"| {place} | `{row.run_id}` | {_status(row)} | {_number(row.test_accuracy, 4)}"
            f" | {_number(row.test_loss, 4)} | {row.architecture} | {row.epochs}"
            f" | {_number(row.fit_s, 1)} s |"
        )
    if others:
        lines += ["", f"{others} more failed, were cancelled or are running."]
    return "\n".join(lines)


def _rules(decision: Decision) -> str:
    rows = [
        f"| {'passed' if rule.passed else '**failed**'} | {rule.name} | {rule.measured}"
        f" | {rule.required} |"
        for rule in decision.rules
    ]
    return "\n".join(["| | rule | measured | required |", "| --- | --- | --- | --- |", *rows])


def _comparison(run: Run, evaluation: Evaluation, measurements: Measurements) -> str:
    champion = measurements.champion
    if not isinstance(champion, Score) or measurements.only_challenger is None:
        return ""
    theirs = champion.evaluation
    gained, lost = measurements.only_challenger or 0, measurements.only_champion or 0
    total = max(evaluation.total, 1)
    ours, before = evaluation.correct / total, theirs.correct / total
    return "\n".join(
        [
            f"| on the same images | this run | champion `{run.champion_version}` | change |",
            "| --- | --: | --: | --: |",
            f"| accuracy | {ours:.4f} | {before:.4f} | {ours - before:+.4f} |",
            f"| loss | {evaluation.loss:.4f} | {theirs.loss:.4f}"
            f" | {evaluation.loss - theirs.loss:+.4f} |",
            f"| right, the other wrong | {gained:,} | {lost:,} | {gained - lost:+,} |",
        ]
    )


def _digits(evaluation: Evaluation) -> str:
    lines = ["| digit | images | right | recall | precision |", "| --: | --: | --: | --: | --: |"]
    for digit, row in enumerate(evaluation.confusion):
        recall, precision = evaluation.recall[digit], evaluation.precision[digit]
        lines.append(
            f"| {digit} | {sum(row):,} | {row[digit]:,}"
            f" | {_number(recall)} | {_number(precision)} |"
        )
    return "\n".join(lines)


def _origin(run: Run) -> str:
    recipe = ", ".join(
        f"{name.replace('_', ' ')} {getattr(run, name)}"
        for name in ("architecture", "epochs", "batch_size", "learning_rate", "seed")
    )
    dirty = " with uncommitted changes" if run.code_dirty else ""
    drift = f"pixels {_number(run.pixel_drift)}, labels {_number(run.label_drift)}"
    rows = {
        "recipe": recipe,
        "code": f"`{(run.code_commit or 'no commit')[:12]}`{dirty}",
        "data": f"{run.source}, {run.train_total:,} training images,"
        f" {run.duplicates:,} images twice, `{(run.data_digest or '')[:12]}`",
        "drift from the champion's data": drift,
        "weights": f"`{(run.weights_digest or '')[:12]}`",
        "test set": f"`{(run.test_digest or '')[:12]}`, used for {run.test_uses:,} decision(s):"
        " each one wears it out a little",
        "libraries": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        "host": run.host,
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in rows.items())])


def _what_to_do(run: Run) -> str:
    again = f"Repeat it: `digits retrain --like {run.run_id}`."
    if run.generation is None:
        return f"The model in use stays. {again}"
    back = f"`digits rollback --dataset {run.dataset}`" if run.champion_version else ""
    return f"It is in use as generation {run.generation}. " + (
        f"Back to the one before: {back}. {again}" if back else again
    )


def _picture(name: str, draw: Callable[[], str]) -> str:
    try:
        return f"![{name}]({draw()})"
    except Exception as error:  # noqa: BLE001 - a report without a picture is still a report
        log.warning("the %s could not be drawn: %s", name, error)
        return f"*The {name} could not be drawn: {error}*"


def _against(decision: Decision) -> str:
    names = [rule.name for rule in decision.rules if not rule.passed]
    return f" Against it: {', '.join(names)}." if names else ""


def _status(row: Run) -> str:
    return f"**{row.status}**" if row.status == "promoted" else row.status


def _number(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else f"{value:.{digits}f}"
