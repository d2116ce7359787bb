"""``digits notify``: a message when a night is rejected, fails or is skipped."""

from urllib.parse import urlsplit

import click

from storage.errors import InvalidParameterError


@click.command()
@click.argument("url")
def notify(url: str) -> None:
    """Have Prefect POST {"text": ...} to URL when a run is rejected, fails or is skipped.

    URL is a Slack webhook, or any address that accepts JSON. The server of `digits up` must be
    running. Run it again to change the address.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise InvalidParameterError(f"expected a URL with http:// or https://, received {url!r}")

    from flows.prefect_host import prepare_environment

    prepare_environment()

    from flows.prefect_host.automations import EVENTS, send_to

    send_to(url)
    click.echo(f"Sends a message on: {', '.join(sorted(EVENTS))}")
