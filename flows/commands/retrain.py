"""``digits retrain``: one run, in this process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from flows.lookup import find_run, open_runs
from flows.output.formats import print_json
from flows.output.options import recipe_options
from storage.errors import DigitsError
from storage.recipe import CHAMPIONS, parameters_of
from storage.records import Status
from storage.settings import read_settings

if TYPE_CHECKING:
    from storage.tables.schema import Run

EXIT_CODES = {str(Status.PROMOTED): 0, str(Status.REJECTED): 3}
DECIDE_WEIGHTS = (
    "data_digest", "architecture", "epochs", "batch_size", "learning_rate", "seed",
    "compute_dtype", "code_commit", "code_dirty", "versions", "host", "corrections_digest",
    "corrections_share",
)  # fmt: skip


@click.command()
@recipe_options
@click.option(
    "--like", metavar="RUN", help="Repeat a run: its recipe, except for the options given here."
)
@click.option("--json", "as_json", is_flag=True, help="Print the run's row as JSON.")
@click.pass_context
def retrain(context: click.Context, /, like: str | None, as_json: bool, **parameters: Any) -> None:
    """Train a model, and promote it if it passes the gate.

    Exit codes: 0 promoted, 3 rejected, 1 failed, 2 wrong usage.
    """
    from flows.output.display import print_outcome
    from flows.prefect_host.in_process import run_flow
    from tasks.data.sources import check_dataset, resolve
    from tasks.training.custom import import_function

    original = None if like is None else find_run(like)
    if original is not None:
        parameters |= _repeated(original, context)
    recipe = resolve(**parameters)
    check_dataset(recipe.dataset)
    if ":" in recipe.architecture:
        import_function(recipe.architecture)
    # What is left open here is the architecture's; the flow would take the champion's.
    open_ones = set(CHAMPIONS) - ({"epochs"} if recipe.max_minutes else set())
    parameters |= {name: getattr(recipe, name) for name in open_ones}
    runs = open_runs()
    runs.check_writable()

    state = run_flow(parameters)
    row = runs.of_flow_run(str(state.state_details.flow_run_id))
    if row is None:
        raise DigitsError(state.message)
    if as_json:
        print_json(row.as_dict())
    if row.status not in EXIT_CODES:
        raise DigitsError(f"{state.message} (run {row.run_id})")
    if not as_json:
        print_outcome(row, read_settings())
    if original is not None:
        click.echo(_compare_weights(row, original), err=as_json)
    sys.exit(EXIT_CODES[row.status])


def _repeated(original: Run, context: click.Context) -> dict[str, Any]:
    """The parameters of the run to repeat, without those that the command line replaces."""
    given = frozenset(
        name
        for name in context.params
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    )
    return parameters_of(original.as_dict(), replaced=given)


def _compare_weights(run: Run, original: Run) -> str:
    """Whether two runs have the same weights, and if not, what differs between them."""
    if original.weights_digest is None or run.weights_digest is None:
        return f"No weights to compare: {run.run_id} or {original.run_id} stored none."
    if run.weights_digest == original.weights_digest:
        return f"The weights are identical to those of {original.run_id}, bit for bit."
    now, then = run.as_dict(), original.as_dict()
    changed = [name for name in DECIDE_WEIGHTS if now[name] != then[name]]
    changed += _changes(then["environment"], now["environment"])
    why = f"; changed since: {', '.join(changed)}" if changed else ""
    return f"The weights differ from those of {original.run_id}{why}."


def _changes(then: dict[str, str] | None, now: dict[str, str] | None) -> list[str]:
    """What differs between two environments; nothing if one is from before they were recorded."""
    if then is None or now is None:
        return []
    names = sorted(name for name in then | now if then.get(name) != now.get(name))
    return [
        f"{name} ({then.get(name, 'not set')}, now {now.get(name, 'not set')})" for name in names
    ]
