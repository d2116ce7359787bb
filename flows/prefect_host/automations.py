"""The Prefect automation that sends a message about a bad night."""

from typing import Any

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import PREFECT_API_URL

from flows.prefect_host.server import check_server, is_healthy
from storage.errors import ServerError

SKIPPED = "model.night-skipped"
EVENTS = {"model.rejected", SKIPPED, "prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
# The format of Slack, Mattermost and others. Prefect fills in the braces; tojson quotes.
BODY = (
    '{"text": {{ ("digits: " ~ event.event ~ " " ~ event.resource.name ~ " "'
    ' ~ event.payload.get("reason", event.resource.get("prefect.state-message", ""))) | tojson }}}'
)


def drop_heartbeat_automation() -> None:
    """Delete an automation of earlier releases: it called a process dead that was only stopped."""
    name = "digits: a run whose heartbeat stopped has crashed"
    with get_client(sync_client=True) as client:
        for automation in client.read_automations_by_name(name):
            client.delete_automation(automation.id)


def send_to(url: str) -> None:
    """Send a message when a run is rejected, fails or is skipped; a second call changes the URL.

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
    """Create an automation, or update that of an earlier release; a disabled one stays so."""
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(name)
        enabled = found[0].enabled if found else True
        wanted = AutomationCore(name=name, enabled=enabled, **automation)
        if found:
            # An update must not name an owner.
            body = wanted.model_dump(mode="json", exclude={"owner_resource"})
            client.request("PUT", "/automations/{id}", path_params={"id": found[0].id}, json=body)
        else:
            client.create_automation(wanted)
