"""What `digits up` does between runs: close dead runs and announce rollbacks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import Event, Resource, ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed

from storage.errors import DatabaseError
from storage.models.store import open_store, store_names
from storage.records import Swap, SwapKind
from storage.recovery import close_dead_runs
from storage.settings import Settings
from storage.tables.database import open_database
from storage.tables.runs import Runs
from tasks.announce import resource

AUTOMATION = "digits: a run whose heartbeat stopped has crashed"
DEPLOYMENT = "retrain/nightly"
HEARTBEAT_S = 30
"""Seconds between a run's heartbeats; Prefect allows nothing shorter."""
CRASHED_AFTER = timedelta(seconds=3 * HEARTBEAT_S)
CRASHED = "no heartbeat: the process died"

log = logging.getLogger("digits")


def create_heartbeat_automation(api_url: str) -> None:
    """Have the server mark runs without a heartbeat as crashed; does nothing if it already does."""
    with _client(api_url) as client:
        if client.read_automations_by_name(AUTOMATION):
            return
        client.create_automation(
            AutomationCore(
                name=AUTOMATION,
                description="Created by `digits up`. Frees the slot of a run that was killed.",
                trigger=EventTrigger(
                    after={"prefect.flow-run.heartbeat"},
                    # Any other event of the run resets it: a heartbeat, or its final state.
                    expect={"prefect.flow-run.*"},
                    match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
                    for_each={"prefect.resource.id"},
                    posture=Posture.Proactive,
                    threshold=1,
                    within=CRASHED_AFTER,
                ),
                actions=[ChangeFlowRunState(state=StateType.CRASHED, message=CRASHED)],
            )
        )


def close_dead_flow_runs(settings: Settings, api_url: str) -> None:
    """Close the rows of dead runs and mark their flow runs as crashed.

    The automation misses runs that died while the server was down. Failures are logged; the
    next call tries again.
    """
    try:
        runs = Runs(open_database(settings.database_url), settings.lease_s)
        dead = close_dead_runs(runs, settings)
        with _client(api_url) as client:
            for row in dead:
                if row.flow_run_id:
                    _mark_crashed(client, row.flow_run_id)
    except DatabaseError as error:
        log.warning("%s", error)
    except Exception as error:  # noqa: BLE001 - must not stop `digits up`
        log.warning("could not mark dead runs as crashed in Prefect: %s", error)


def runs_page(api_url: str) -> str:
    """URL of the deployment's page with its runs.

    Without the empty filter, Prefect's page hides runs in a state with a custom name such as
    Promoted (https://github.com/PrefectHQ/prefect/issues/16402).
    """
    with _client(api_url) as client:
        deployment = client.read_deployment_by_name(DEPLOYMENT).id
    ui = api_url.removesuffix("/api")
    return f"{ui}/deployments/deployment/{deployment}?runs.flowRuns.state.name"


def announce_rollbacks(settings: Settings, api_url: str, seen: dict[str, int]) -> None:
    """Emit ``model.rolled-back`` for each rollback since the last call.

    `digits rollback` works without Prefect, so it emits no event itself.

    Args:
        settings: Where the models are.
        api_url: The server's.
        seen: Generation of each dataset's champion at the last call; updated in place.
    """
    try:
        for dataset in store_names(settings):
            swaps = open_store(settings, dataset).history().swaps
            new = [s for s in swaps if s.generation > seen.get(dataset, s.generation)]
            seen[dataset] = swaps[-1].generation
            rollbacks = [swap for swap in new if swap.kind is SwapKind.ROLLBACK]
            if rollbacks:
                events = [_rolled_back(dataset, swap) for swap in rollbacks]
                with _client(api_url) as client:
                    client.request("POST", "/events", json=events)
    except Exception as error:  # noqa: BLE001 - must not stop `digits up`
        log.warning("could not announce rollbacks: %s", error)


@contextmanager
def _client(api_url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        yield client


def _rolled_back(dataset: str, swap: Swap) -> dict[str, Any]:
    columns = ("version", "predecessor", "generation", "actor", "reason")
    event = Event(
        event="model.rolled-back",
        resource=Resource(resource(dataset)),
        payload={column: getattr(swap, column) for column in columns},
        occurred=swap.swapped_at,
    )
    dumped: dict[str, Any] = event.model_dump(mode="json")
    return dumped


def _mark_crashed(client: SyncPrefectClient, flow_run_id: str) -> None:
    try:
        run = client.read_flow_run(UUID(flow_run_id))
    except ObjectNotFound:  # it belongs to another server
        return
    if run.state is not None and not run.state.is_final():
        client.set_flow_run_state(run.id, Crashed(message=CRASHED), force=True)
