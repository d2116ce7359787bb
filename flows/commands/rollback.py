"""``digits rollback``: put an earlier model back to use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from flows.commands.champion import describe, print_champions
from flows.lookup import current_user, only_dataset
from flows.output.formats import print_json
from storage.errors import DatabaseError, ModelStoreError
from storage.settings import Settings, read_settings

if TYPE_CHECKING:
    from storage.models.store import ModelStore

# The rollback has happened; the table of promotions is not worth a long wait.
PATIENCE_S = 5


@click.command()
@click.option("--dataset", help="A name, or a folder.  [default: the only one with a champion]")
@click.option(
    "--to",
    metavar="RUN",
    help="Version to switch to.  [default: the previous one with other weights]",
)
@click.option("--why", metavar="TEXT", default="", help="The reason, kept in the history.")
@click.option("--json", "as_json", is_flag=True, help="Print the champion as JSON.")
def rollback(dataset: str | None, to: str | None, why: str, as_json: bool) -> None:
    """Switch back to an earlier model.

    The model is loaded and tested first. Needs neither a Prefect server nor the database. The
    replaced model is not promoted again until you roll back to it.
    """
    from storage.models.store import open_store

    settings = read_settings()
    name = only_dataset(settings, dataset)
    store = open_store(settings, name)
    store.rollback(to, actor=current_user(), reason=why)
    entry = describe(settings, name)
    if as_json:
        print_json(entry)
    else:
        print_champions([entry])
    sys.stdout.flush()
    _sync_promotions(settings, store)


def _sync_promotions(settings: Settings, store: ModelStore) -> None:
    """Bring the table of promotions up to date; if it cannot be reached, the next run does."""
    from storage.tables.database import has_database, open_database
    from storage.tables.promotions import Promotions

    try:
        if has_database(settings.database_url):
            engine = open_database(settings.database_url, wait_s=PATIENCE_S)
            Promotions(engine).sync(store.name, store.history())
    except (DatabaseError, ModelStoreError) as error:
        click.echo(f"The next run updates the table of promotions: {error}", err=True)
