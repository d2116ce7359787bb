"""``digits champion``: the model in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.lookup import dataset_names
from flows.output.formats import as_json_or_csv, print_json, print_records
from storage.errors import DamagedModelError, DigitsError, ModelStoreError, VersionNotFoundError
from storage.settings import Settings, read_settings

if TYPE_CHECKING:
    from storage.models.store import ModelStore
    from storage.records import Pointer


@click.command()
@click.option("--dataset", help="Only this dataset: a name, or a folder.  [default: all]")
@as_json_or_csv
def champion(dataset: str | None, form: str) -> None:
    """Show which model is in use, since when, and which version a rollback would restore.

    The digest of every file is checked; the exit code is 1 if one does not match.
    """
    settings = read_settings()
    found = []
    for name in dataset_names(settings, dataset):
        try:
            found.append(describe(settings, name))
        except VersionNotFoundError:  # its first promotion was interrupted
            if dataset is not None:
                raise
    if form == "csv":
        print_records(found, form)
    elif form == "json":
        print_json(found if dataset is None else found[0])
    elif found:
        print_champions(found)
    else:
        click.echo("No champion yet. Train one: digits retrain --dataset mnist-5k", err=True)
    problems = [entry["problem"] for entry in found if entry["problem"]]
    if problems:
        raise DigitsError("; ".join(problems))


def describe(settings: Settings, dataset: str) -> dict[str, Any]:
    """What ``digits champion`` shows of a dataset, as JSON values.

    Its ``problem`` is None, or says why the champion cannot be used and what to do.
    """
    from storage.models.store import open_store

    store = open_store(settings, dataset)
    entry: dict[str, Any] = {"dataset": dataset, "problem": None}
    try:
        pointer = store.champion()
        if pointer is None:
            raise VersionNotFoundError(f"expected a champion of {dataset}, found none yet")
        entry |= _pointed_to(store, pointer)
        pointer, _ = store.read_champion() or (pointer, None)  # it may have moved meanwhile
        entry |= _pointed_to(store, pointer)
        history = store.history().until(pointer)
    except VersionNotFoundError:
        raise
    except ModelStoreError as error:
        way_out = f"; `digits rollback --dataset {dataset}` switches to another version"
        entry["problem"] = f"{error}{way_out if isinstance(error, DamagedModelError) else ''}"
        return entry
    now, back = history.line[0], history.predecessor
    return entry | {
        "test_correct": now.test_correct,
        "test_total": now.test_total,
        "kind": now.kind,
        "since": now.swapped_at,
        "actor": now.actor,
        "reason": now.reason,
        "rollback_leads_to": back.version if back else None,
    }


def _pointed_to(store: ModelStore, pointer: Pointer) -> dict[str, Any]:
    return {
        "version": pointer.version,
        "generation": pointer.generation,
        "folder": str(store.version(pointer.version)),
        "kept": store.kept(),
    }


def print_champions(entries: Sequence[dict[str, Any]]) -> None:
    """Print the only entry in full, or one line for each of several."""
    from flows.output.display import print_fields, print_rows

    if len(entries) == 1:
        print_fields(_in_words(entries[0]).items())
    else:
        columns = ("dataset", "version", "generation", "test accuracy", "since")
        print_rows(columns, [[e.get(name) for name in columns] for e in map(_in_words, entries)])


def _in_words(entry: dict[str, Any]) -> dict[str, Any]:
    from flows.output.display import short_path

    if entry["problem"]:
        return {k: entry[k] for k in ("dataset", "version", "generation") if k in entry}
    correct, total = entry["test_correct"], entry["test_total"]
    accuracy = f"{correct / total:.4f} ({correct:,} of {total:,} correct)" if total else ""
    why = f": {entry['reason']}" if entry["reason"] else ""
    return {
        "dataset": entry["dataset"],
        "version": entry["version"],
        "generation": entry["generation"],
        "test accuracy": accuracy,
        "since": f"{entry['since']:%Y-%m-%d %H:%M:%S} UTC",
        "by": f"{entry['kind']}, {entry['actor']}{why}",
        "files": f"{short_path(Path(entry['folder']))}, digests match",
        "rollback leads to": entry["rollback_leads_to"]
        or "none: no earlier version has other weights",
        "kept": ", ".join(entry["kept"]),
    }
