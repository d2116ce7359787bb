"""``digits up``: the Prefect server, a worker and the nightly schedule."""

import click

from storage.settings import read_settings


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the UI and API.  [default: 4200]"
)
def up(port: int | None) -> None:
    """Start the server, a worker and the nightly schedule, and run until Ctrl-C."""
    from flows.prefect_host import prepare_environment

    prepare_environment()

    from flows.prefect_host.up import run_until_stopped

    run_until_stopped(read_settings(), port)
