"""Promote: carry out the gate's decision in the model store."""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.models.store import ModelStore
from storage.records import Decision, Outcome, Pointer, Status
from tasks.stage import Candidate

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def promote(
    store: ModelStore, candidate: Candidate, seen: Pointer | None, decision: Decision
) -> Outcome | None:
    """Make the candidate the champion if the gate accepted it; otherwise remove it.

    ``seen`` is the pointer to the champion it was compared with.

    Returns:
        How the run ends; None if the champion changed in the meantime, so that the challenger
        must be compared again.

    Raises:
        ModelStoreError: If the pointer cannot be swapped, or the run was given up as lost
            although it is alive; the champion stays.
    """
    if not decision.accepted:
        store.discard(candidate.run_id)
        return Outcome(Status.REJECTED, decision.reason)
    swap = store.promote(
        candidate.run_id, candidate.digest, seen, actor="retrain", reason=decision.reason
    )
    if swap is None:
        log.info("the champion changed in the meantime: comparing again")
        return None
    return Outcome(Status.PROMOTED, decision.reason, swap.generation)
