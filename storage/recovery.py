"""Clean up after runs that died."""

import logging
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.errors import DamagedModelError, DamagedStateError, ModelStoreError
from storage.lives import forget, process_lives
from storage.models.store import ModelStore, open_store
from storage.records import Status
from storage.settings import LONGEST_LEASE_S, Settings
from storage.tables.runs import Runs
from storage.tables.schema import Run

log = logging.getLogger("digits")

SILENT = "no heartbeat within DIGITS_LEASE_S: the process died or lost its database connection"
ENDED = (
    "its process ended without a final status: it was killed, the machine went off, or it could"
    " not write to the database"
)
STOPPED = "no heartbeat for longer than max_hours: its process exists, but is stopped or hangs"


def close_dead_runs(runs: Runs, settings: Settings) -> list[Run]:
    """Close the rows of dead runs, and delete their candidates.

    Such a run is ``lost``, unless its model was promoted before it died. Returns the rows as they
    were before.

    Raises:
        DatabaseError: If the table cannot be read or written.
    """
    dead = []
    for run in runs.running():
        why = why_dead(run, process_lives(settings.home, run.run_id), datetime.now(UTC))
        if why is None:
            continue
        try:
            if _close(run, why, runs, open_store(settings, run.dataset)):
                forget(settings.home, run.run_id)
                dead.append(run)
        except ModelStoreError as error:
            log.warning("run %s is dead; a later run will close its row: %s", run.run_id, error)
    return dead


def why_dead(run: Run, lives: bool | None, now: datetime) -> str | None:
    """Why a running row belongs to no living run; None if it does.

    Args:
        run: The row.
        lives: What ``process_lives`` says.
        now: Aware. A lease that ends later than any can was given before the clock was set back.
    """
    overdue = now - run.lease_expires_at
    if lives is False and run.host == socket.gethostname():
        return ENDED
    if lives:
        return STOPPED if overdue > timedelta(hours=run.max_hours or 24) else None
    alive = timedelta(seconds=-LONGEST_LEASE_S) <= overdue <= timedelta()
    return None if alive else SILENT


def _close(run: Run, why: str, runs: Runs, store: ModelStore) -> bool:
    try:
        # From here on it cannot be promoted, even if it only seems dead.
        swap = store.give_up(run.run_id)
    except (DamagedModelError, DamagedStateError):
        swap = None  # nothing is promoted over a pointer that cannot be read
    outcome: dict[str, Any] = {"status": Status.LOST, "reason": why}
    if swap is not None:
        outcome = {
            "status": Status.PROMOTED, "reason": swap.reason, "generation": swap.generation,
        }  # fmt: skip
    closed = runs.close_dead(run, **outcome)
    if closed:
        store.discard(run.run_id)
    return closed
