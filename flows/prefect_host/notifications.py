"""The Prefect automation that sends a message when a run is rejected or fails."""

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import PREFECT_API_URL

from flows.prefect_host.server import check_login, is_healthy
from storage.errors import ServerError

AUTOMATION = "digits: tell when a night is rejected or fails"
BLOCK = "digits-notify"
EVENTS = {"model.rejected", "prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
# The format of Slack, Mattermost and others. Prefect fills in the braces; tojson quotes.
BODY = (
    '{"text": {{ ("digits: " ~ event.event ~ " " ~ event.resource.name ~ " "'
    ' ~ event.payload.get("reason", event.resource.get("prefect.state-message", ""))) | tojson }}}'
)


def send_to(url: str) -> None:
    """Create the automation, or change the URL of the one that exists.

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
    check_login(server)
    webhook = Webhook(method="POST", url=url, headers={"Content-Type": "application/json"})
    block = webhook.save(BLOCK, overwrite=True)
    automation = AutomationCore(
        name=AUTOMATION,
        description="Created by `digits notify`.",
        trigger=EventTrigger(expect=EVENTS, posture=Posture.Reactive, threshold=1),
        actions=[CallWebhook(block_document_id=block, payload=BODY)],
    )
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(AUTOMATION):
            client.create_automation(automation)
