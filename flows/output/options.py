"""The options of commands that take a recipe."""

from collections.abc import Callable
from typing import Any

import click

from storage.recipe import Parameter, parameters


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one option for each parameter of the recipe, in the recipe's order."""
    for parameter in reversed(parameters()):
        command = _option(parameter)(command)
    return command


def _option(parameter: Parameter) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = parameter.name.replace("_", "-")
    bounds = " From {:g} to {}.".format(*parameter.bounds) if parameter.bounds else ""
    return click.option(
        f"--{flag}/--no-{flag}" if parameter.kind is bool else f"--{flag}",
        type=click.Choice(parameter.choices) if parameter.choices else parameter.kind,
        default=parameter.default,
        show_default=parameter.default is not None,
        help=parameter.help + bounds,
    )
