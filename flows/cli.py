"""The command ``digits``. Commands import Prefect, TensorFlow and SQLAlchemy when they run."""

import gc
import os
import sys
from io import TextIOWrapper
from pathlib import Path

import click

from flows.commands.champion import champion
from flows.commands.corrections import corrections
from flows.commands.history import history
from flows.commands.notify import notify
from flows.commands.predict import predict
from flows.commands.report import report
from flows.commands.retrain import retrain
from flows.commands.rollback import rollback
from flows.commands.serve import serve
from flows.commands.show import show
from flows.commands.up import up
from storage.errors import DigitsError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="digits")
def cli() -> None:
    """A handwritten-digit classifier that retrains itself and runs unattended."""


for command in (
    retrain, up, history, show, report, champion, rollback, predict, serve, corrections, notify,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command; an expected error ends in one line and an exit code."""
    # Imports create many objects that live until the end: without this, collecting garbage takes
    # a tenth of the time of `digits history`.
    gc.set_threshold(100_000)
    _prepare_output()
    try:
        _check_arguments(sys.argv[1:])
        cli(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # from the flush; click handles it in a command, and exits with 1 too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (DigitsError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code if isinstance(error, DigitsError) else 1)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Cancelled.", err=True)
        sys.exit(130)


def _prepare_output() -> None:
    """Make any text printable in a narrow encoding, and nothing printed to a closed output."""
    if sys.stdout is None:  # `digits history >&-`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _check_arguments(arguments: list[str]) -> None:
    """Only the name of a file may be other bytes than UTF-8, which tables and JSON need."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            if not Path(argument).exists():
                raise click.UsageError(
                    f"expected arguments in UTF-8, received {os.fsencode(argument)!r}"
                ) from None
