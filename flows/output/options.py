"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click


def as_json_or_csv(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json`` and ``--csv``: its ``form`` is "json", "csv" or ""."""
    command = click.option(
        "--csv", "form", flag_value="csv", help="Print it as CSV, with a header."
    )(command)
    return click.option("--json", "form", flag_value="json", default="", help="Print it as JSON.")(
        command
    )
