"""How champions are printed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.output.display import print_fields, print_rows, short_path


def print_champions(entries: Sequence[dict[str, Any]]) -> None:
    """Print the champion of one dataset in full, or one line for each of several.

    Args:
        entries: As ``flows.commands.champion.describe`` returns them.
    """
    if len(entries) == 1:
        print_fields(_in_words(entries[0]).items())
    else:
        columns = ("dataset", "version", "generation", "test accuracy", "since")
        print_rows(columns, ([e.get(name) for name in columns] for e in map(_in_words, entries)))


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
