"""What `digits up` does at night so that nobody has to: the dead are closed, in row and server."""

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
"""A run says so often that it lives; Prefect allows no shorter time."""
SILENCE = timedelta(seconds=3 * HEARTBEAT_S)
GONE = "its process gave no sign of life any more"

log = logging.getLogger("digits")


def watch_heartbeats(api_url: str) -> None:
    """Have the server close runs whose heartbeat stopped: one automation, known by its name."""
    with _client(api_url) as client:
        if client.read_automations_by_name(AUTOMATION):
            return
        client.create_automation(
            AutomationCore(
                name=AUTOMATION,
                description="Made by `digits up`. It frees the place of a run that was killed.",
                trigger=EventTrigger(
                    after={"prefect.flow-run.heartbeat"},
                    # Any other word of the run will do: another heartbeat, or how it ended.
                    expect={"prefect.flow-run.*"},
                    match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
                    for_each={"prefect.resource.id"},
                    posture=Posture.Proactive,
                    threshold=1,
                    within=SILENCE,
                ),
                actions=[ChangeFlowRunState(state=StateType.CRASHED, message=GONE)],
            )
        )


def close_the_dead(settings: Settings, api_url: str) -> None:
    """Close rows of dead runs, and what the server still takes for running of them.

    The server may have been off as well when the run died, and then no heartbeat tells it.
    What fails here is tried again the next time.
    """
    try:
        runs = Runs(open_database(settings.database_url), settings.lease_s)
        dead = close_dead_runs(runs, settings)
        with _client(api_url) as client:
            for row in dead:
                if row.flow_run_id:
                    _crash(client, row.flow_run_id)
    except DatabaseError as error:
        log.warning("%s", error)
    except Exception as error:  # noqa: BLE001 - the night goes on
        log.warning("dead runs could not be closed in Prefect: %s", error)


def runs_page(api_url: str) -> str:
    """The deployment's page with its runs.

    Without the question Prefect's page leaves out runs whose state has a name of its own
    (https://github.com/PrefectHQ/prefect/issues/16402), and Promoted is one.
    """
    with _client(api_url) as client:
        deployment = client.read_deployment_by_name(DEPLOYMENT).id
    ui = api_url.removesuffix("/api")
    return f"{ui}/deployments/deployment/{deployment}?runs.flowRuns.state.name"


@contextmanager
def _client(api_url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        yield client


def announce_rollbacks(settings: Settings, api_url: str, seen: dict[str, int]) -> None:
    """Emit ``model.rolled-back`` for each rollback since the last call.

    `digits rollback` itself needs no Prefect, and tells it nothing.

    Args:
        settings: Where the models are.
        api_url: The server's.
        seen: Generation of each dataset's pointer at the last call; brought up to date.
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
    except Exception as error:  # noqa: BLE001 - the night goes on
        log.warning("rollbacks could not be announced: %s", error)


def _rolled_back(dataset: str, swap: Swap) -> dict[str, Any]:
    payload = {
        "version": swap.version,
        "predecessor": swap.predecessor,
        "generation": swap.generation,
        "actor": swap.actor,
        "reason": swap.reason,
    }
    event = Event(
        event="model.rolled-back",
        resource=Resource(resource(dataset)),
        payload=payload,
        occurred=swap.swapped_at,
    )
    dumped: dict[str, Any] = event.model_dump(mode="json")
    return dumped


def _crash(client: SyncPrefectClient, flow_run_id: str) -> None:
    try:
        run = client.read_flow_run(UUID(flow_run_id))
    except ObjectNotFound:  # of another server
        return
    if run.state is not None and not run.state.is_final():
        client.set_flow_run_state(run.id, Crashed(message=GONE), force=True)
