"""What `digits up` does between runs: close dead runs and announce rollbacks."""

import logging
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.prefect_host.automations import NO_HEARTBEAT
from storage.errors import DatabaseError
from storage.models.store import open_store, store_names
from storage.records import Swap, SwapKind
from storage.recovery import close_dead_runs
from storage.settings import Settings
from storage.tables.database import open_database
from storage.tables.runs import Runs
from tasks.announce import resource

log = logging.getLogger("digits")


def close_dead_flow_runs(settings: Settings) -> None:
    """Close the rows of dead runs and mark their flow runs as crashed.

    The automation misses runs that died while the server was down. Failures are logged; the
    next call tries again.
    """
    try:
        runs = Runs(open_database(settings.database_url), settings.lease_s)
        dead = close_dead_runs(runs, settings)
        with get_client(sync_client=True) as client:
            for row in dead:
                if row.flow_run_id:
                    _mark_crashed(client, row.flow_run_id)
    except DatabaseError as error:
        log.warning("%s", error)
    except Exception as error:  # noqa: BLE001 - must not stop `digits up`
        log.warning("could not mark dead runs as crashed in Prefect: %s", error)


def runs_page(ui: str) -> str:
    """URL of the deployment's page with its runs.

    Without the empty filter, Prefect's page hides runs in a state with a custom name such as
    Promoted (https://github.com/PrefectHQ/prefect/issues/16402).
    """
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("retrain/nightly").id
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
        client.set_flow_run_state(run.id, Crashed(message=NO_HEARTBEAT), force=True)
