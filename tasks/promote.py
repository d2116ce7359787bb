"""Promote: the candidate becomes the champion, or is removed."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.records import Decision, Status
from tasks.record import RunInProgress


@task(cache_policy=NO_CACHE)
def promote(run: RunInProgress, decision: Decision) -> None:
    """Carry out the gate's decision and close the run's row.

    Raises:
        RunClosedError: If the run was given up as lost meanwhile; the champion stays.
        ModelStoreError: If the pointer cannot be swapped; the champion stays.
    """
    if not decision.accepted:
        run.store.discard(run.id)
        run.finish(Status.REJECTED, decision.reason)
        return
    run.note()
    pointer = run.store.promote(run.id)
    run.finish(Status.PROMOTED, decision.reason, generation=pointer.generation)
