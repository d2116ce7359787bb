"""``digits champion`` and ``digits rollback``: the model in use, without trainer or server."""

import getpass
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from flows.output.options import as_json_or_csv
from storage.errors import (
    DamagedModelError,
    DatabaseError,
    DigitsError,
    ModelStoreError,
    VersionNotFoundError,
)
from storage.settings import Settings, read_settings

# The rollback stands; nobody waits long for the table that tells of it.
PATIENCE_S = 5


@click.command()
@click.option("--dataset", help="Only this dataset's: a name, or the folder.")
@as_json_or_csv
def champion(dataset: str | None, form: str) -> None:
    """Show which model is in use, since when, and where a rollback leads.

    Each file is checked against its digest; exits with 1 if one is not what it should be.
    """
    from flows.output.formats import print_json, print_records

    settings = read_settings()
    found = []
    for name in _names(settings, dataset):
        try:
            found.append(describe(settings, name))
        except VersionNotFoundError:  # its first promotion was cut short
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


@click.command()
@click.option("--dataset", help="The dataset's name, or its folder.  [default: the only one]")
@click.option("--to", metavar="RUN", help="The version.  [default: the one before, other weights]")
@click.option("--why", metavar="TEXT", default="", help="Kept in the history.")
@click.option("--json", "as_json", is_flag=True, help="Print the champion as JSON.")
def rollback(dataset: str | None, to: str | None, why: str, as_json: bool) -> None:
    """Put an earlier model back to use, in one step.

    It is loaded and tried before. Neither a Prefect server nor the database is needed. The
    model that is taken out of use is not promoted again, until you roll back to it.
    """
    from flows.output.formats import print_json
    from storage.models.store import open_store

    settings = read_settings()
    name = only_dataset(settings, dataset)
    store = open_store(settings, name)
    store.rollback(to, actor=whoever(), reason=why)
    entry = describe(settings, name)
    if as_json:
        print_json(entry)
    else:
        print_champions([entry])
    sys.stdout.flush()
    _sync_promotions(settings, store)


def only_dataset(settings: Settings, dataset: str | None) -> str:
    """The dataset that is named; without a name the only one that has a champion.

    Raises:
        VersionNotFoundError: If there is none, or more than one.
    """
    names = _names(settings, dataset)
    if len(names) != 1:
        raise VersionNotFoundError(
            f"expected --dataset with one of {', '.join(names)}"
            if names
            else f"expected a champion in {settings.models}, found none yet;"
            " train one: digits retrain --dataset mnist-5k"
        )
    return names[0]


def describe(settings: Settings, dataset: str) -> dict[str, Any]:
    """What ``digits champion`` says about a dataset, as JSON values.

    Its ``problem`` is None, or says why the champion cannot be put to use and the way out.
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
            pointer = found[0]  # it may have moved meanwhile
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


def _pointed_to(store: Any, pointer: Any) -> dict[str, Any]:
    return {
        "version": pointer.version,
        "generation": pointer.generation,
        "folder": str(store.version(pointer.version)),
        "kept": store.kept(),
    }


def print_champions(entries: Sequence[dict[str, Any]]) -> None:
    """Print the champion of a dataset, or one line for each of several."""
    from rich.table import Table

    from flows.output.display import print_table

    if len(entries) == 1:
        (entry,) = entries
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in _shown(entry).items():
            table.add_row(name.replace("_", " "), value)
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        columns = ("dataset", "version", "generation", "test accuracy", "since")
        for column in columns:
            table.add_column(column, no_wrap=True)
        for entry in entries:
            shown = _shown(entry)
            table.add_row(*(shown.get(column, "") for column in columns))
    print_table(table)


def _shown(entry: dict[str, Any]) -> dict[str, str]:
    """What is worth showing of a champion, in words."""
    from flows.output.display import short_path

    if entry["problem"]:
        known = {k: entry[k] for k in ("dataset", "version", "generation") if k in entry}
        return {name: str(value) for name, value in known.items()}
    correct, total = entry["test_correct"], entry["test_total"]
    accuracy = f"{correct / total:.4f} ({correct:,} of {total:,} right)" if total else ""
    why = f": {entry['reason']}" if entry["reason"] else ""
    shown = {
        "dataset": entry["dataset"],
        "version": entry["version"],
        "generation": entry["generation"],
        "test accuracy": accuracy,
        "since": f"{entry['since']:%Y-%m-%d %H:%M:%S} UTC",
        "by": f"{entry['kind']}, {entry['actor']}{why}",
        "files": f"{short_path(Path(entry['folder']))}, digests hold",
        "a rollback leads to": entry["rollback_leads_to"] or "nothing: no other weights before it",
        "kept": ", ".join(entry["kept"]),
    }
    return {name: str(value) for name, value in shown.items()}


def _names(settings: Settings, dataset: str | None) -> list[str]:
    from storage.models.store import store_names
    from tasks.data.sources import locate

    return store_names(settings) if dataset is None else [locate(dataset)[1]]


def _sync_promotions(settings: Settings, store: Any) -> None:
    """Bring the table up to date; if it cannot be reached, the next run will."""
    from storage.tables.database import has_database, open_database
    from storage.tables.promotions import Promotions

    try:
        if has_database(settings.database_url):
            engine = open_database(settings.database_url, busy_timeout_s=PATIENCE_S)
            Promotions(engine).sync(store.name, store.history())
    except (DatabaseError, ModelStoreError) as error:
        click.echo(f"The table of promotions waits for the next run: {error}", err=True)


def whoever() -> str:
    """Who gives this command, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
