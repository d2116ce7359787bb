"""Promote: the candidate becomes the champion, or is removed."""

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.records import Decision, Status
from tasks.record import RunInProgress
from tasks.scoring.measure import Measurements

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def promote(run: RunInProgress, measurements: Measurements, decision: Decision) -> None:
    """Carry out the gate's decision and close the run's row.

    If the champion is not the one any more with which the challenger was compared, the run
    stays open: it has to be scored and decided again.

    Raises:
        RunClosedError: If the run was given up as lost meanwhile; the champion stays.
        ModelStoreError: If the pointer cannot be swapped; the champion stays.
    """
    run.decided(measurements, decision)
    if not decision.accepted:
        run.store.discard(run.id)
        run.finish(Status.REJECTED, decision.reason)
        return
    swap = run.store.promote(
        run.id,
        run.candidate_digest,
        measurements.compared_with,
        actor="retrain",
        reason=decision.reason,
    )
    if swap is None:
        log.info("the champion changed meanwhile: comparing again")
        return
    run.finish(Status.PROMOTED, decision.reason, generation=swap.generation)
    run.sync_promotions()
