"""Prints the generated parts of the documents: `make docs` writes them, `make lint` checks them."""

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
