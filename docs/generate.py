"""Prints the generated parts of the documents: `make docs` writes them, `make lint` checks them."""

import inspect

import click

from flows.cli import cli
from storage.tables.schema import VIEWS, Base


def columns(table: str) -> None:
    """Print the columns of a table with their units and meanings."""
    print("| column | unit | meaning |\n| --- | --- | --- |")
    for column in Base.metadata.tables[table].columns:
        unit = column.info["unit"]
        print(f"| `{column.name}` | {unit}{' ' if unit else ''}| {column.doc} |")


def views() -> None:
    """Print the views with the columns that no table has."""
    print("| view | one row per | own columns |\n| --- | --- | --- |")
    for view in VIEWS.tables.values():
        own = "; ".join(f"`{column.name}`: {column.doc}" for column in view.columns)
        print(f"| `{view.name}` | {view.info['row']} | {own} |")


def commands() -> None:
    """Print every command of ``digits`` with its arguments and options."""
    _command(click.Context(cli, info_name="digits"))


def _command(context: click.Context) -> None:
    command = context.command
    if context.parent:
        print(f"## `{' '.join(context.command_path.split())}`\n")
        print(inspect.cleandoc(command.help or ""), end="\n\n")
        _options(context)
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            _command(click.Context(sub, info_name=name, parent=context))


def _options(context: click.Context) -> None:
    usage = " ".join(context.command.collect_usage_pieces(context))
    print(f"```\n{context.command_path} {usage}\n```\n")
    options = [option for option in context.command.params if isinstance(option, click.Option)]
    records = [option.get_help_record(context) for option in options]
    rows = [[_cell(text) for text in record] for record in records if record]
    if rows:
        print("| option | meaning |\n| --- | --- |")
        print("\n".join(f"| `{option}` | {meaning} |" for option, meaning in rows), end="\n\n")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
