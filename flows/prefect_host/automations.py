"""The Prefect automations: crashed runs are closed, and a message reports a bad night."""

from datetime import timedelta
from typing import Any

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.settings import PREFECT_API_URL

from flows.prefect_host.server import check_server, is_healthy
from storage.errors import ServerError

HEARTBEAT_S = 30
"""Seconds between a run's heartbeats; Prefect allows nothing shorter."""
NO_HEARTBEAT = "no heartbeat: the process died"
EVENTS = {"model.rejected", "prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
# The format of Slack, Mattermost and others. Prefect fills in the braces; tojson quotes.
BODY = (
    '{"text": {{ ("digits: " ~ event.event ~ " " ~ event.resource.name ~ " "'
    ' ~ event.payload.get("reason", event.resource.get("prefect.state-message", ""))) | tojson }}}'
)


def crash_without_heartbeat() -> None:
    """Have the server mark runs without a heartbeat as crashed."""
    _create_once(
        name="digits: a run whose heartbeat stopped has crashed",
        description="Created by `digits up`. Frees the slot of a run that was killed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            # Any other event of the run resets it: a heartbeat, or its final state.
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=3 * HEARTBEAT_S),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=NO_HEARTBEAT)],
    )


def send_to(url: str) -> None:
    """Send a message when a run is rejected or fails; a second call changes the URL.

    Args:
        url: Receives a POST with a JSON body ``{"text": ...}``.

    Raises:
        ServerError: If no Prefect server answers, or it refuses the login.
    """
    server = PREFECT_API_URL.value()
    if not server or not is_healthy(server):
        raise ServerError(
            "expected a Prefect server that answers, received none; start `digits up` first"
        )
    check_server(server)
    webhook = Webhook(method="POST", url=url, headers={"Content-Type": "application/json"})
    block = webhook.save("digits-notify", overwrite=True)
    _create_once(
        name="digits: tell when a night is rejected or fails",
        description="Created by `digits notify`.",
        trigger=EventTrigger(expect=EVENTS, posture=Posture.Reactive, threshold=1),
        actions=[CallWebhook(block_document_id=block, payload=BODY)],
    )


def _create_once(name: str, **automation: Any) -> None:
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(name):
            client.create_automation(AutomationCore(name=name, **automation))
