"""The command ``digits``. What needs Prefect or TensorFlow imports it when it is called."""

import gc
import logging
import os
import sys
import traceback
from typing import Any

import click
from click.core import ParameterSource

from flows.commands.champion import champion, rollback
from flows.commands.corrections import corrections
from flows.commands.history import find_run, history, open_runs, show
from flows.commands.notify import notify
from flows.commands.predict import predict
from flows.commands.report import report
from flows.commands.serve import serve
from flows.output.options import recipe_options
from storage.errors import DigitsError
from storage.recipe import parameters_of
from storage.records import Status
from storage.settings import read_settings

EXIT_CODES = {str(Status.PROMOTED): 0, str(Status.REJECTED): 3}
# Parameters that go with another one: who replaces that one does not take these either.
WITH = {"dataset": {"name", "min_accuracy", "min_recall"}, "champion_rule": {"margin"}}
PREFECT_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "digits",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="digits")
def cli() -> None:
    """A handwritten-digit classifier that retrains itself and can be left alone."""


@cli.command()
@recipe_options
@click.option(
    "--like", metavar="RUN", help="Repeat a run: what is not given here is taken from its row."
)
@click.option("--json", "as_json", is_flag=True, help="Print the run's row as JSON.")
@click.pass_context
def retrain(context: click.Context, /, like: str | None, as_json: bool, **parameters: Any) -> None:
    """Train a model, and promote it if it passes the gate.

    Exits with 0 if it was promoted, 3 if rejected, 1 if the run failed, 2 on wrong usage.
    """
    from tasks.data.sources import check_dataset, resolve
    from tasks.training.custom import check_architecture

    settings = read_settings()
    original = None
    if like is not None:
        original = find_run(like)
        given = {
            name
            for name in parameters
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT
        }
        given = given.union(*(WITH[name] for name in given & WITH.keys()))
        parameters |= {k: v for k, v in parameters_of(original.as_dict()).items() if k not in given}
    recipe = resolve(**parameters)
    check_dataset(recipe.dataset)
    check_architecture(recipe.architecture)

    runs = open_runs()
    runs.check_writable()
    state = _run_flow(parameters)
    row = runs.of_flow_run(str(state.state_details.flow_run_id))
    if row is None:
        raise DigitsError(state.message)

    from flows.output.display import likeness, print_outcome
    from flows.output.formats import print_json

    if as_json:
        print_json(row.as_dict())
    if row.status not in EXIT_CODES:
        raise DigitsError(f"{state.message} (run {row.run_id})")
    if not as_json:
        print_outcome(row, settings)
    if original is not None:
        click.echo(likeness(row, original), err=as_json)
    sys.exit(EXIT_CODES[row.status])


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Of the UI and API.  [default: 4200]")
def up(port: int | None) -> None:
    """Start server, worker and nightly schedule, until Ctrl-C."""
    _set_defaults(**PREFECT_DEFAULTS)

    from flows.prefect_host.up import run_until_stopped

    run_until_stopped(read_settings(), port)


for command in (history, show, report, champion, predict, serve, corrections, rollback, notify):
    cli.add_command(command)


def main() -> None:
    """Run the command; what a user can cause ends in one line and an exit code."""
    # Imports make many objects that stay: looking for garbage among them is a tenth of the
    # time that `digits history` takes.
    gc.set_threshold(100_000)
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DigitsError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Cancelled.", err=True)
        sys.exit(130)


def _run_flow(parameters: dict[str, Any]) -> Any:
    """Run the flow in this process and return its final Prefect state."""
    # The steps tell a person what happens; Prefect's own lines go to its log and the UI.
    _set_defaults(**PREFECT_DEFAULTS, PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL")
    # A descriptor of its own: standard error's is taken while TensorFlow is imported.
    handler = logging.StreamHandler(os.fdopen(os.dup(sys.stderr.fileno()), "w"))
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("digits").addHandler(handler)

    from flows.prefect_host.server import server_for_a_run, wait_for_tasks
    from tasks.training.keras_import import import_keras_in_background

    import_keras_in_background()
    with server_for_a_run() as embedded:
        from flows.retrain import retrain as flow

        state = flow(**parameters, return_state=True)
        _show_defect(state)
        if embedded:
            wait_for_tasks(state)
    return state


def _set_defaults(**defaults: str) -> None:
    """Set what the user has not set, before Prefect is imported and reads it."""
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _show_defect(state: Any) -> None:
    """Print the traceback of an error that no user can cause; a DigitsError says it all."""
    error = state.result(raise_on_failure=False) if state.is_failed() else None
    if isinstance(error, Exception) and error.__traceback__ and not isinstance(error, DigitsError):
        traceback.print_exception(error)
