"""Clean up after runs that died."""

import logging

from storage.errors import DamagedModelError, DamagedStateError, ModelStoreError
from storage.models.store import ModelStore, open_store
from storage.records import Status
from storage.settings import Settings
from storage.tables.runs import Runs
from storage.tables.schema import Run

log = logging.getLogger("digits")

LOST = "no heartbeat within DIGITS_LEASE_S: the process died or lost its database connection"


def close_dead_runs(runs: Runs, settings: Settings) -> list[Run]:
    """Close the rows of runs whose lease has expired, and delete their candidates.

    Such a run is ``lost``, unless its model was promoted before it died. Returns the rows as they
    were before.

    Raises:
        DatabaseError: If the table cannot be read or written.
    """
    dead = []
    for run in runs.expired():
        try:
            if _close(run.run_id, runs, open_store(settings, run.dataset)):
                dead.append(run)
        except ModelStoreError as error:
            log.warning("run %s is dead; a later run will close its row: %s", run.run_id, error)
    return dead


def _close(run_id: str, runs: Runs, store: ModelStore) -> bool:
    try:
        # From here on it cannot be promoted, even if it only seems dead.
        swap = store.give_up(run_id)
    except (DamagedModelError, DamagedStateError):
        swap = None  # nothing is promoted over a pointer that cannot be read
    if swap is None:
        closed = runs.close_expired(run_id, Status.LOST, LOST)
    else:
        generation = swap.generation
        closed = runs.close_expired(run_id, Status.PROMOTED, swap.reason, generation=generation)
    if closed:
        store.discard(run_id)
    return closed
