"""How champions are printed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from flows.output.display import print_table, short_path


def print_champions(entries: Sequence[dict[str, Any]]) -> None:
    """Print the champion of one dataset in full, or one line for each of several.

    Args:
        entries: As ``flows.commands.champion.describe`` returns them.
    """
    if len(entries) == 1:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in _in_words(entries[0]).items():
            table.add_row(name, value)
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        columns = ("dataset", "version", "generation", "test accuracy", "since")
        for column in columns:
            table.add_column(column, no_wrap=True)
        for entry in entries:
            shown = _in_words(entry)
            table.add_row(*(shown.get(column, "") for column in columns))
    print_table(table)


def _in_words(entry: dict[str, Any]) -> dict[str, str]:
    if entry["problem"]:
        known = {k: entry[k] for k in ("dataset", "version", "generation") if k in entry}
        return {name: str(value) for name, value in known.items()}
    correct, total = entry["test_correct"], entry["test_total"]
    accuracy = f"{correct / total:.4f} ({correct:,} of {total:,} correct)" if total else ""
    why = f": {entry['reason']}" if entry["reason"] else ""
    return {
        "dataset": entry["dataset"],
        "version": entry["version"],
        "generation": str(entry["generation"]),
        "test accuracy": accuracy,
        "since": f"{entry['since']:%Y-%m-%d %H:%M:%S} UTC",
        "by": f"{entry['kind']}, {entry['actor']}{why}",
        "files": f"{short_path(Path(entry['folder']))}, digests match",
        "rollback leads to": entry["rollback_leads_to"]
        or "none: no earlier version has other weights",
        "kept": ", ".join(entry["kept"]),
    }
