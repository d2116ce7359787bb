"""How runs are printed: tables for people, JSON for programs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from storage.models.store import open_store
from storage.records import Status
from storage.settings import SQLITE, Settings

if TYPE_CHECKING:  # commands that need no database do not import SQLAlchemy
    from storage.tables.schema import Run

WIDE = 120
BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-~=+*#"
# All but the end of a line.
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
COLOURS = {
    Status.RUNNING: "cyan",
    Status.PROMOTED: "green",
    Status.REJECTED: "yellow",
    Status.CANCELLED: "magenta",
}


def print_history(runs: Sequence[Run]) -> None:
    """Print one line per run."""
    # A narrow terminal has no room for the reason; `digits show` prints it.
    shown = HISTORY if _console().width >= WIDE else HISTORY[:-1]
    columns = [Column(heading, justify=justify) for heading, justify, _ in shown]
    print_rows(columns, [[cell(run) for _, _, cell in shown] for run in runs], cut="why")
    for line in _trends(runs):
        print(line)


def print_run(
    run: Run,
    curve: Sequence[dict[str, Any]],
    digits: Sequence[dict[str, Any]],
    robustness: Sequence[dict[str, Any]],
) -> None:
    """Print a run's columns, each on a line, its learning curve, digits and transformations."""
    fields: list[tuple[str, object]] = []
    for column, value in run.as_dict().items():
        if column == "rules":
            fields += _rules(run, "rule")
        else:
            fields.append((column, _status(run) if column == "status" else _words(value)))
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        values = [epoch[name] for epoch in curve if epoch[name] is not None]
        if values:
            line = f"{sparkline(values)}  {values[0]:.4f} to {values[-1]:.4f}"
            fields.append((f"{name.replace('_', ' ')}, epochs", line))
    for digit in digits:
        shares = f"recall {_number(digit['recall'])}  precision {_number(digit['precision'])}"
        found = f"{digit['correct']:,} of {digit['images']:,}  {shares}"
        fields.append((f"digit {digit['digit']}", found))
    for counts in robustness:
        share = _number(counts["correct"] / counts["total"])
        found = f"{counts['correct']:,} of {counts['total']:,}  {share}"
        fields.append((f"robustness, {counts['transformation']}", found))
    print_fields(fields)


def sparkline(values: Sequence[float]) -> str:
    """Draw numbers as a line of bars in eight heights, scaled to their range."""
    bars = BARS if _prints(BARS) else ASCII_BARS
    least, most = min(values), max(values)
    step = (most - least) / (len(bars) - 1) or 1
    return "".join(bars[round((value - least) / step)] for value in values)


def _trends(runs: Sequence[Run]) -> list[str]:
    """A sparkline of each dataset's test accuracy, oldest run first, on its newest test set."""
    accuracies: dict[str, list[float]] = {}
    tested_on: dict[str, str | None] = {}
    since: dict[str, str] = {}
    for run in reversed(runs):
        if run.test_accuracy is not None:
            if tested_on.setdefault(run.dataset, run.test_digest) != run.test_digest:
                del accuracies[run.dataset]
                tested_on[run.dataset] = run.test_digest
                since[run.dataset] = f"; another test set since {run.run_id}"
            accuracies.setdefault(run.dataset, []).append(run.test_accuracy)
    return [
        f"\n{dataset}: accuracy {sparkline(values)}  {min(values):.4f} to {max(values):.4f}"
        f"{since.get(dataset, '')}"
        for dataset, values in accuracies.items()
        if len(values) > 1 or dataset in since
    ]


def print_outcome(run: Run, settings: Settings) -> None:
    """Print the result of a run, where it is stored, and what to type next."""
    fields: list[tuple[str, object]] = [("run", run.run_id), ("decision", _status(run))]
    if run.test_total is not None:
        counts = f"{run.test_correct:,} of {run.test_total:,} correct"
        fields.append(("test accuracy", f"{_number(run.test_accuracy)} ({counts})"))
        fields.append(("test loss", _number(run.test_loss) or "not finite"))
    fields += _rules(run, "gate")
    training = f" ({_seconds(run.fit_s)} training)" if run.fit_s is not None else ""
    fields.append(("took", f"{_seconds(run.duration_s)}{training}"))
    fields.append(("row", _database(settings)))
    command = _command()
    hints = [
        (f"{command} history", "all runs so far"),
        (f"{command} show {run.run_id}", "everything about this run"),
    ]
    if run.status == Status.PROMOTED:
        folder = open_store(settings, run.dataset).version(run.run_id)
        fields.append(("model", f"{short_path(folder)} (generation {run.generation})"))
        if run.champion_version:
            back = f"{command} rollback --dataset {run.dataset}"
            hints.append((back, "put the previous model back"))
    print_fields(fields)
    print("\nNext:")
    print_fields([*hints, (f"{command} up", "the Prefect UI and the nightly schedule")])


def print_rows(
    columns: Iterable[str | Column], rows: Sequence[Sequence[object]], cut: str = ""
) -> None:
    """Print a table with a heading for each column, and one line per row.

    In a narrow terminal the column with the heading ``cut`` is shortened, and no other.
    """
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    texts = [[_text(value) for value in row] for row in rows]
    least_width = 0
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in texts]
        if column.header == cut:
            for cell in cells:
                cell.no_wrap, cell.overflow = True, "ellipsis" if _prints("…") else "crop"
        else:
            column.no_wrap = True
            least_width += max(len(str(column.header)), *(cell.cell_len for cell in cells)) + 2
    _print(table, texts, least_width)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print one name and its value per line."""
    columns = Column(), Column(overflow="fold")
    _print(Table(*columns, box=None, show_header=False, pad_edge=False), fields)


def _print(table: Table, rows: Iterable[Sequence[object]], least_width: int = 0) -> None:
    for row in rows:
        table.add_row(*map(_text, row))
    console = _console()
    console.width = max(console.width, least_width)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _console() -> Console:
    """A console as wide as the terminal; without one, wide enough that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 400, highlight=False)


def _prints(text: str) -> bool:
    """Whether standard output has these characters: a terminal may be cp1252 or ASCII."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _rules(run: Run, name: str) -> Iterator[tuple[str, Text]]:
    for rule in run.rules or []:
        result = ("passed", "green") if rule["passed"] else ("failed", "yellow")
        measured = f"  {rule['name']}: {rule['measured']}, required {rule['required']}"
        yield name, Text.assemble(result, measured)


def _status(run: Run) -> Text:
    return Text(run.status, style=COLOURS.get(Status(run.status), "red"))


def _words(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {of}" for name, of in value.items())
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    return f"{value:.6g}" if isinstance(value, float) else value


def _text(value: object) -> Text:
    """Control characters are shown, not sent to the terminal: names come from other people."""
    if isinstance(value, Text):
        return value
    shown = "" if value is None else str(value)
    return Text(CONTROLS.sub(lambda found: repr(found[0])[1:-1], shown))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _database(settings: Settings) -> str:
    if settings.database_url.startswith(SQLITE):
        return f"{short_path(Path(settings.database_url.removeprefix(SQLITE)))}, table runs"
    return "table runs of DIGITS_DATABASE_URL"


def short_path(path: Path) -> str:
    """The path relative to the working directory if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _command() -> str:
    """How to call this program: ``digits`` if it is on PATH, otherwise its path."""
    command = Path(sys.argv[0]).absolute()
    on_path = str(command.parent) in os.environ.get("PATH", "").split(os.pathsep)
    return command.name if on_path else short_path(command)


# The columns of `digits history`: heading, alignment, and what a run shows below it.
HISTORY: tuple[tuple[str, Literal["left", "right"], Callable[[Run], object]], ...] = (
    ("run", "left", lambda run: run.run_id),
    ("status", "left", _status),
    ("dataset", "left", lambda run: run.dataset),
    ("test accuracy", "right", lambda run: _number(run.test_accuracy)),
    ("test loss", "right", lambda run: _number(run.test_loss)),
    ("took", "right", lambda run: _seconds(run.duration_s)),
    ("why", "left", lambda run: run.reason),
)
