"""How runs are printed: tables for people, JSON for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from storage.models.store import open_store
from storage.records import Status
from storage.settings import SQLITE, Settings

if TYPE_CHECKING:  # the commands that need no database do not wait for SQLAlchemy
    from storage.tables.schema import Run

WIDE = 120
BARS = "▁▂▃▄▅▆▇█"
DECIDE_WEIGHTS = (
    "data_digest", "architecture", "epochs", "batch_size", "learning_rate", "seed",
    "code_commit", "code_dirty", "versions", "host", "corrections_digest", "corrections_share",
)  # fmt: skip
COLOURS = {
    Status.RUNNING: "cyan",
    Status.PROMOTED: "green",
    Status.REJECTED: "yellow",
    Status.FAILED: "red",
    Status.CANCELLED: "magenta",
    Status.LOST: "red",
}


def print_history(runs: Sequence[Run]) -> None:
    """Print one line per run."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run", no_wrap=True, min_width=max(len(run.run_id) for run in runs))
    for heading in ("status", "dataset"):
        table.add_column(heading, no_wrap=True)
    for heading in ("test accuracy", "test loss", "took"):
        table.add_column(heading, no_wrap=True, justify="right")
    # On a narrow terminal the reason has no room; `digits show` has it.
    with_reason = _console().width >= WIDE
    if with_reason:
        table.add_column("why", no_wrap=True)
    for run in runs:
        reason = [_plain(run.reason)] if with_reason else []
        table.add_row(
            run.run_id,
            _status(run),
            run.dataset,
            _number(run.test_accuracy),
            _number(run.test_loss),
            _seconds(run.duration_s),
            *reason,
        )
    print_table(table)
    for line in _trends(runs):
        print(line)


def print_run(run: Run, curve: Sequence[dict[str, Any]], digits: Sequence[dict[str, Any]]) -> None:
    """Print every column of a run, one a line, then its learning curve and its digits."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for column, value in run.as_dict().items():
        if column == "status":
            table.add_row(column, _status(run))
        elif column == "rules":
            _add_rules(table, run, "rule")
        else:
            table.add_row(column, _plain(_words(value)))
    if curve:
        for name in ("loss", "accuracy"):
            values = [epoch[name] for epoch in curve]
            ends = f"{values[0]:.4f} to {values[-1]:.4f}"
            table.add_row(f"{name}, epochs", _plain(f"{sparkline(values)}  {ends}"))
    for digit in digits:
        shares = f"recall {_number(digit['recall'])}  precision {_number(digit['precision'])}"
        found = f"{digit['correct']:,} of {digit['images']:,}  {shares}"
        table.add_row(f"digit {digit['digit']}", _plain(found))
    print_table(table)


def sparkline(values: Sequence[float]) -> str:
    """Some numbers as a line of eight heights, from the least to the most."""
    least, most = min(values), max(values)
    step = (most - least) / (len(BARS) - 1) or 1
    return "".join(BARS[round((value - least) / step)] for value in values)


def _trends(runs: Sequence[Run]) -> list[str]:
    """Of each dataset's runs a sparkline of their test accuracy, oldest first."""
    accuracies: dict[str, list[float]] = {}
    for run in reversed(runs):
        if run.test_accuracy is not None:
            accuracies.setdefault(run.dataset, []).append(run.test_accuracy)
    return [
        f"\n{dataset}: accuracy {sparkline(values)}  {min(values):.4f} to {max(values):.4f}"
        for dataset, values in accuracies.items()
        if len(values) > 1
    ]


def print_outcome(run: Run, settings: Settings) -> None:
    """Print what a run came to, where it is kept, and what to type next."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("run", run.run_id)
    table.add_row("decision", _status(run))
    if run.test_total is not None:
        counts = f"{run.test_correct:,} of {run.test_total:,} right"
        table.add_row("test accuracy", f"{_number(run.test_accuracy)} ({counts})")
        table.add_row("test loss", _number(run.test_loss) or "not finite")
    _add_rules(table, run, "gate")
    training = f", of which {_seconds(run.fit_s)} training" if run.fit_s is not None else ""
    table.add_row("took", f"{_seconds(run.duration_s)}{training}")
    table.add_row("row", _plain(_database(settings)))
    if run.status == Status.PROMOTED:
        folder = open_store(settings, run.dataset).version(run.run_id)
        table.add_row("model", _plain(f"{short_path(folder)} (generation {run.generation})"))
    print_table(table)
    command = _command()
    hints = Table(box=None, show_header=False, pad_edge=False)
    hints.add_row(f"{command} history", "every run so far")
    hints.add_row(f"{command} show {run.run_id}", "everything about this one")
    if run.status == Status.PROMOTED and run.champion_version:
        hints.add_row(f"{command} rollback --dataset {run.dataset}", "back to the model before")
    hints.add_row(f"{command} up", "the Prefect UI and the nightly schedule")
    print("\nNext:")
    print_table(hints)


def likeness(run: Run, original: Run) -> str:
    """Whether a repeated run came out the same, and if not, what was another."""
    if original.weights_digest is None or run.weights_digest is None:
        return f"One of {run.run_id} and {original.run_id} left no weights to compare."
    if run.weights_digest == original.weights_digest:
        return f"The weights are those of {original.run_id}, bit by bit."
    ours, theirs = run.as_dict(), original.as_dict()
    others = [name for name in DECIDE_WEIGHTS if ours[name] != theirs[name]]
    why = f"; other than then: {', '.join(others)}" if others else ""
    return f"The weights are not those of {original.run_id}{why}."


def print_table(table: Table) -> None:
    """Print a table."""
    console = _console()
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _console() -> Console:
    """Without a terminal there is no width to keep to, and nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 400, highlight=False)


def _add_rules(table: Table, run: Run, name: str) -> None:
    for rule in run.rules or []:
        line = Text.assemble(
            ("passed", "green") if rule["passed"] else ("failed", "yellow"),
            f"  {rule['name']}: {rule['measured']}, required {rule['required']}",
        )
        table.add_row(name, line)


def _status(run: Run) -> Text:
    return Text(run.status, style=COLOURS[Status(run.status)])


def _words(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {of}" for name, of in value.items())
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return f"{value:.6g}" if isinstance(value, float) else value


def _plain(value: Any) -> Text:
    return Text("" if value is None else str(value))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _database(settings: Settings) -> str:
    if settings.database_url.startswith(SQLITE):
        return f"{short_path(Path(settings.database_url.removeprefix(SQLITE)))}, table runs"
    return "table runs of DIGITS_DATABASE_URL"


def short_path(path: Path) -> str:
    """The path as one would type it here: relative where it lies below this folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _command() -> str:
    """The way this program was called: ``digits`` if it is on the path, else where it lies."""
    command = Path(sys.argv[0]).absolute()
    on_path = str(command.parent) in os.environ.get("PATH", "").split(os.pathsep)
    return command.name if on_path else short_path(command)
