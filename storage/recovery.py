"""What a crash left behind, put right at the next start."""

import logging
from contextlib import nullcontext

from storage.errors import ModelStoreError
from storage.models.store import ModelStore, open_store
from storage.records import Status, Swap
from storage.settings import Settings
from storage.tables.runs import Runs
from storage.tables.schema import Run

log = logging.getLogger("digits")

LOST = "its process died, or lost touch with the database, and told nobody"


def close_dead_runs(runs: Runs, settings: Settings) -> list[Run]:
    """Close the rows of runs that gave no sign of life, and remove their candidates.

    Such a run is ``lost``, unless its model was promoted before it died.

    Args:
        runs: The table.
        settings: Where the models are.

    Returns:
        Their rows, as they were before.

    Raises:
        DatabaseError: If the table cannot be read or written.
    """
    dead = []
    for run in runs.expired():
        store = open_store(settings, run.dataset)
        try:
            if _close(run.run_id, runs, store):
                dead.append(run)
        except ModelStoreError as error:
            log.warning("run %s has ended; a later run closes its row: %s", run.run_id, error)
    return dead


def _close(run_id: str, runs: Runs, store: ModelStore) -> bool:
    # Under the store's lock: a run that only seemed dead cannot promote meanwhile, and
    # afterwards finds no candidate.
    with store.locked() if store.folder.is_dir() else nullcontext():
        swap = promotion_of(store, run_id)
        if swap is None:
            closed = runs.close_expired(run_id, Status.LOST, LOST)
        else:
            closed = runs.close_expired(
                run_id, Status.PROMOTED, swap.reason, generation=swap.generation
            )
        if closed:
            store.discard(run_id)
    return closed


def promotion_of(store: ModelStore, run_id: str) -> Swap | None:
    """The swap that promoted a run's model; None if none did, or the store cannot be read."""
    try:
        return store.history().promotion(run_id)
    except ModelStoreError:
        return None
