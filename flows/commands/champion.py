"""``digits champion``: the model in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flows.lookup import dataset_names
from flows.output.options import as_json_or_csv
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
    from flows.output.formats import print_json, print_records

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
        from flows.output.champions import print_champions

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
        found = store.read_champion()
        if found:
            pointer = found[0]  # it may have moved in the meantime
        entry |= _pointed_to(store, pointer)
        history = store.history().until(pointer)
    except VersionNotFoundError:
        raise
    except DamagedModelError as error:
        entry["problem"] = (
            f"{error}; `digits rollback --dataset {dataset}` switches to another version"
        )
        return entry
    except ModelStoreError as error:
        entry["problem"] = str(error)
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
