"""The text of the report and of the leaderboard: Markdown from the templates beside this file."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray

from storage.tables.schema import Run
from tasks.reporting.plots import confusion_matrix, contact_sheet, learning_curve, robustness
from tasks.scoring.values import Measurements, Score, usable
from tasks.train import LearningCurve

log = logging.getLogger("digits")


def report_text(
    run: Run, curve: LearningCurve, measurements: Measurements, test_images: NDArray[np.uint8]
) -> str:
    """The report in Markdown, with its pictures embedded; the most confident mistakes are shown.

    ``test_images`` is uint8, shape (n, 28, 28).
    """
    evaluation, champion = measurements.evaluation, usable(measurements.champion)
    stored, ours = measurements.challenger, measurements.robustness
    theirs = champion.robustness if isinstance(champion, Score) else None
    mistakes = stored.mistakes if isinstance(stored, Score) else ()
    return _render(
        "report.md.jinja",
        run=run,
        evaluation=evaluation,
        champion=champion if isinstance(champion, Score) else None,
        pairs=measurements.pairs,
        curve=_picture("learning curve", lambda: learning_curve(curve.epochs)),
        confusion=_picture("confusion matrix", lambda: confusion_matrix(evaluation)),
        robustness=ours and _picture("robustness", lambda: robustness(ours, theirs)),
        mistakes=mistakes and _picture("mistakes", lambda: contact_sheet(test_images, mistakes)),
    )


def leaderboard_text(rows: Sequence[Run]) -> str:
    """The newest runs of a name in Markdown, the most accurate first; ``rows`` are newest first.

    Only runs on the newest test set are compared.
    """
    measured = [row for row in rows if row.test_accuracy is not None]
    same = [row for row in measured if row.test_digest == measured[0].test_digest]
    same.sort(key=lambda row: (-(row.test_accuracy or 0), row.test_loss or 0))
    others = len(measured) - len(same)
    return _render("leaderboard.md.jinja", rows=rows, measured=same, others=others)


def _render(template: str, **values: object) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(),  # of HTML only: these are Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"number": _number, "digest": _digest, "line": _line}
    return environment.get_template(template).render(values)


def _picture(name: str, draw: Callable[[], str]) -> str:
    try:
        return f"![{name}]({draw()})"
    except Exception as error:  # noqa: BLE001 - a report without a picture is still a report
        log.warning("the %s could not be drawn: %s", name, error)
        return f"*The {name} could not be drawn: {error}*"


def _number(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _digest(value: str | None) -> str:
    return f"`{value[:12]}`" if value else "none"


def _line(text: str) -> str:
    """Text on one line, which ends no item of a list: people choose their names and folders."""
    return " ".join(text.split())
