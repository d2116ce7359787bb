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
from storage.errors import DigitsError
from storage.records import (
    ARCHITECTURES,
    BATCH_SIZE,
    CHAMPION_RULES,
    CORRECTIONS_SHARE,
    EPOCHS,
    LEARNING_RATE,
    MARGIN,
    SEED,
    SHARE,
    Recipe,
    Status,
)
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
@click.option(
    "--dataset",
    default="mnist",
    show_default=True,
    help="mnist, mnist-5k, or a folder with MNIST's four IDX files (with or without .gz).",
)
@click.option("--name", help="Where runs and champions are kept.  [default: the dataset's name]")
@click.option(
    "--architecture", type=click.Choice(ARCHITECTURES), default="mlp", show_default=True,
    help="The network.",
)  # fmt: skip
@click.option("--epochs", type=int, default=10, show_default=True, help=f"{EPOCHS}.")
@click.option("--batch-size", type=int, default=128, show_default=True, help=f"{BATCH_SIZE}.")
@click.option(
    "--learning-rate", type=float, default=0.001, show_default=True, help=f"{LEARNING_RATE}."
)
@click.option("--seed", type=int, help=f"{SEED}.  [default: drawn, and kept in the row]")
@click.option(
    "--min-accuracy",
    type=float,
    help=f"{SHARE}.  [default: the dataset's: 0.97, mnist-5k 0.90]",
)
@click.option(
    "--confident", is_flag=True,
    help="The lower bound of the accuracy's 95 % interval has to meet the minimum too.",
)  # fmt: skip
@click.option(
    "--min-recall", type=float,
    help="Share of each digit's test images that has to be found.  [default: the dataset's:"
    " 0.8, mnist-5k 0.7]",
)  # fmt: skip
@click.option(
    "--champion-rule", type=click.Choice(CHAMPION_RULES), default=Recipe.champion_rule,
    show_default=True, help="What the comparison with the champion asks for.",
)  # fmt: skip
@click.option(
    "--margin", type=int, default=Recipe.margin, show_default=True,
    help=f"Test images that non-inferior may be behind the best champion ever: {MARGIN}.",
)  # fmt: skip
@click.option(
    "--max-drift", type=float, default=Recipe.max_drift, show_default=True,
    help="Distance (Jensen-Shannon, 0 to 1) that the data may have from the champion's.",
)  # fmt: skip
@click.option(
    "--corrections/--no-corrections", default=Recipe.corrections, show_default=True,
    help="Whether it learns from what people corrected.",
)  # fmt: skip
@click.option(
    "--corrections-share", type=float, default=Recipe.corrections_share, show_default=True,
    help=f"Share of an epoch's images that come from corrections at most: {CORRECTIONS_SHARE}.",
)  # fmt: skip
@click.option(
    "--like", metavar="RUN", help="Repeat a run: what is not given here is taken from its row."
)
@click.option("--json", "as_json", is_flag=True, help="Print the run's row as JSON.")
@click.pass_context
def retrain(context: click.Context, /, like: str | None, as_json: bool, **parameters: Any) -> None:
    """Train a model, and promote it if it passes the gate.

    Exits with 0 if it was promoted, 3 if rejected, 1 if the run failed, 2 on wrong usage.
    """
    from tasks.data.sources import check_source, make_recipe, parameters_of

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
        parameters |= {k: v for k, v in parameters_of(original).items() if k not in given}
    check_source(make_recipe(**parameters).source)

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
