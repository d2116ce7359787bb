"""What `digits up` does between runs: record what no run could, and announce rollbacks."""

import logging
from datetime import UTC, datetime
from uuid import UUID

from filelock import FileLock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.prefect_host.automations import SKIPPED
from storage.errors import DatabaseError
from storage.models.store import open_store, store_names
from storage.provenance import read_provenance
from storage.records import Status, Swap, SwapKind
from storage.recovery import ENDED, close_dead_runs
from storage.settings import Settings
from storage.tables.database import open_database
from storage.tables.runs import Runs
from storage.tables.schema import Run
from tasks.announce import resource
from tasks.data.sources import resolve_night

log = logging.getLogger("digits")

# While another program holds the database, the worker is still watched; the next call tries again.
WAIT_S = 5
LIMIT_REACHED = "Deployment concurrency limit reached."
"""How Prefect cancels a run that is due while another one is going."""


def close_dead_flow_runs(settings: Settings) -> None:
    """Close the rows of dead runs and mark their flow runs as crashed.

    Prefect's server would leave them running for ever. Failures are logged; the next call tries
    again.
    """
    try:
        runs = Runs(open_database(settings.database_url, wait_s=WAIT_S), settings.lease_s)
        dead = close_dead_runs(runs, settings)
        with get_client(sync_client=True) as client:
            for row in dead:
                if row.flow_run_id:
                    _mark_crashed(client, row.flow_run_id)
    except DatabaseError as error:
        log.warning("%s", error)
    except Exception as error:  # noqa: BLE001 - must not stop `digits up`
        log.warning("could not mark dead runs as crashed in Prefect: %s", error)


def record_crashed_nights(settings: Settings, name: str, since: datetime) -> None:
    """Write a row ``failed`` for each run that ended before it could open one itself.

    Its code could not be imported, its folder is gone, or its parameters are wrong. Failures are
    logged; the next call tries again.

    Args:
        settings: Where the table is.
        name: Full name of the deployment.
        since: Runs that ended earlier are left alone.
    """
    try:
        runs = Runs(open_database(settings.database_url, wait_s=WAIT_S), settings.lease_s)
        with _only_here(settings), get_client(sync_client=True) as client:
            bad = [StateType.CRASHED, StateType.FAILED]
            for run in _without_row(runs, _ended(client, name, since, bad)):
                message = run.state.message if run.state else None
                reason = f"it ended before its first step: {message}; see the log of {run.name}"
                _record(runs, run, settings, Status.FAILED, f"{reason} in Prefect")
    except Exception as error:  # noqa: BLE001 - must not stop `digits up`
        log.warning("could not record the runs that ended before their first step: %s", error)


def record_skipped_nights(settings: Settings, name: str, since: datetime) -> None:
    """Write a row ``cancelled`` and emit an event for each run that was due during another one.

    Prefect cancels it before its process starts. Arguments are those of ``record_crashed_nights``.
    """
    try:
        runs = Runs(open_database(settings.database_url, wait_s=WAIT_S), settings.lease_s)
        with _only_here(settings), get_client(sync_client=True) as client:
            cancelled = _ended(client, name, since, [StateType.CANCELLED])
            skipped = [r for r in cancelled if r.state and r.state.message == LIMIT_REACHED]
            for run in _without_row(runs, skipped):
                going = runs.running()
                other = f"run {going[-1].run_id}" if going else "another run"
                reason = f"skipped: {other} was still going when it was due"
                row = _record(runs, run, settings, Status.CANCELLED, reason)
                event = Event(
                    event=SKIPPED,
                    resource=Resource(resource(row.dataset)),
                    payload={"reason": reason, "run_id": row.run_id},
                    occurred=datetime.now(UTC),
                )
                client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except Exception as error:  # noqa: BLE001 - must not stop `digits up`
        log.warning("could not record the runs that were skipped: %s", error)


def _only_here(settings: Settings) -> FileLock:
    """A lock: another `digits up` of this installation does the same."""
    return FileLock(settings.home / ".housekeeping.lock")


def _ended(
    client: SyncPrefectClient, name: str, since: datetime, how: list[StateType]
) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[client.read_deployment_by_name(name).id]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=how)),
            end_time=FlowRunFilterEndTime(after_=since),
        )
    )


def _without_row(runs: Runs, ended: list[FlowRun]) -> list[FlowRun]:
    return [run for run in ended if runs.of_flow_run(str(run.id)) is None]


def _record(runs: Runs, run: FlowRun, settings: Settings, status: Status, reason: str) -> Run:
    recipe = resolve_night(settings, **run.parameters)
    row = runs.open(recipe, **read_provenance(str(run.id)).columns())
    runs.close(row, status, reason)
    log.warning("run %s is %s: %s", row, status, reason)
    return runs.get(row)


def runs_page(ui: str, name: str) -> str:
    """URL of a deployment's page with its runs.

    Without the empty filter, Prefect's page hides runs in a state with a custom name such as
    Promoted (https://github.com/PrefectHQ/prefect/issues/16402).
    """
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(name).id
    return f"{ui}/deployments/deployment/{deployment}?runs.flowRuns.state.name"


def announce_rollbacks(settings: Settings, seen: dict[str, int]) -> None:
    """Emit ``model.rolled-back`` for each rollback since the last call.

    `digits rollback` works without Prefect, so it emits no event itself.

    Args:
        settings: Where the models are.
        seen: Generation of each dataset's champion at the last call; updated in place.
    """
    try:
        for dataset in store_names(settings):
            swaps = open_store(settings, dataset).history().swaps
            new = [s for s in swaps if s.generation > seen.get(dataset, s.generation)]
            seen[dataset] = swaps[-1].generation
            rollbacks = [swap for swap in new if swap.kind is SwapKind.ROLLBACK]
            if rollbacks:
                events = [_rolled_back(dataset, swap).model_dump(mode="json") for swap in rollbacks]
                with get_client(sync_client=True) as client:
                    client.request("POST", "/events", json=events)
    except Exception as error:  # noqa: BLE001 - must not stop `digits up`
        log.warning("could not announce rollbacks: %s", error)


def _rolled_back(dataset: str, swap: Swap) -> Event:
    columns = ("version", "predecessor", "generation", "actor", "reason")
    return Event(
        event="model.rolled-back",
        resource=Resource(resource(dataset)),
        payload={column: getattr(swap, column) for column in columns},
        occurred=swap.swapped_at,
    )


def _mark_crashed(client: SyncPrefectClient, flow_run_id: str) -> None:
    try:
        run = client.read_flow_run(UUID(flow_run_id))
    except ObjectNotFound:  # it belongs to another server
        return
    if run.state is not None and not run.state.is_final():
        client.set_flow_run_state(run.id, Crashed(message=ENDED), force=True)
