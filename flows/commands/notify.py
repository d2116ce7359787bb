"""``digits notify``: a message when a night is rejected or fails, by an automation of Prefect."""

from urllib.parse import urlsplit

import click

from storage.errors import InvalidParameterError, ServerError

AUTOMATION = "digits: tell when a night is rejected or fails"
BLOCK = "digits-notify"
EVENTS = {"model.rejected", "prefect.flow-run.Failed", "prefect.flow-run.Crashed"}
# What Slack, Mattermost and others take; Prefect fills in the braces, tojson quotes.
BODY = (
    '{"text": {{ ("digits: " ~ event.event ~ " " ~ event.resource.name ~ " "'
    ' ~ event.payload.get("reason", event.resource.get("prefect.state-message", ""))) | tojson }}}'
)


@click.command()
@click.argument("url")
def notify(url: str) -> None:
    """Have Prefect POST a JSON {"text": ...} to URL when a night is rejected or fails.

    URL is a Slack webhook, or any address that takes JSON. Needs the server of `digits up`;
    said again, it changes the address.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise InvalidParameterError(f"expected a URL with http:// or https://, received {url!r}")

    from prefect.blocks.webhook import Webhook
    from prefect.client.orchestration import get_client
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.settings import PREFECT_API_URL

    from flows.prefect_host.server import answers, check_login

    server = PREFECT_API_URL.value()
    if not server or not answers(server):
        raise ServerError(
            "expected a Prefect server that answers, received none; start `digits up` first"
        )
    check_login(server)
    webhook = Webhook(method="POST", url=url, headers={"Content-Type": "application/json"})
    block = webhook.save(BLOCK, overwrite=True)
    automation = AutomationCore(
        name=AUTOMATION,
        description="Made by `digits notify`.",
        trigger=EventTrigger(expect=EVENTS, posture=Posture.Reactive, threshold=1),
        actions=[CallWebhook(block_document_id=block, payload=BODY)],
    )
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(AUTOMATION):
            client.create_automation(automation)
    click.echo(f"A message goes out on: {', '.join(sorted(EVENTS))}")
