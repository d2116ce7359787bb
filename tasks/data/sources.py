"""From what a person says to a recipe in which nothing is left open."""

from __future__ import annotations

import secrets
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import DatasetNotFoundError
from storage.records import SEED, Recipe

if TYPE_CHECKING:
    from storage.tables.schema import Run

MNIST = "mnist"
MNIST_5K = "mnist-5k"
DOWNLOADED_OR_SHIPPED = (MNIST, MNIST_5K)
EXPECTED = "dataset: expected mnist, mnist-5k or a folder with MNIST's four IDX files"

# The seed network reaches 97.9 to 98.5 % on MNIST and 93 to 94 % on mnist-5k.
DEFAULT_MIN_ACCURACY = 0.97
MIN_ACCURACIES = {MNIST_5K: 0.90}
# Of 100 test images of each digit chance alone takes the worst one below 0.80 now and then.
MIN_RECALLS = {MNIST_5K: 0.70}


def make_recipe(
    *,
    dataset: str,
    name: str | None,
    architecture: str,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int | None,
    min_accuracy: float | None,
    min_recall: float | None = None,
    **gate: Any,
) -> Recipe:
    """Fill in what was left open: the name, the seed and the minimum accuracy.

    Args:
        dataset: ``mnist``, ``mnist-5k`` or a folder of IDX files; nothing is opened here.
        name: Where runs and champions are kept; None means the dataset's or folder's name.
        architecture: See Recipe, as for all that follow.
        epochs: See Recipe.
        batch_size: See Recipe.
        learning_rate: See Recipe.
        seed: None draws one.
        min_accuracy: None means the dataset's own.
        min_recall: None means the dataset's own.
        **gate: See Recipe: confident and all that follow it, but min_recall.

    Raises:
        InvalidParameterError: If a value is out of bounds.
    """
    source, own_name = locate(dataset)
    if min_accuracy is None:
        min_accuracy = MIN_ACCURACIES.get(source, DEFAULT_MIN_ACCURACY)
    if min_recall is None:
        min_recall = MIN_RECALLS.get(source, Recipe.min_recall)
    return Recipe(
        dataset=own_name if name is None else name,
        source=source,
        architecture=architecture,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=secrets.randbelow(int(SEED.high) + 1) if seed is None else seed,
        min_accuracy=min_accuracy,
        min_recall=min_recall,
        **gate,
    )


def parameters_of(run: Run) -> dict[str, Any]:
    """What one would have to say for the same recipe, by ``make_recipe``'s names.

    Args:
        run: Its row. What it does not know, because it is older, is left out.
    """
    named = {"dataset": run.source, "name": run.dataset}
    rest = {field.name: getattr(run, field.name) for field in fields(Recipe)}
    return {k: v for k, v in {**rest, **named}.items() if k != "source" and v is not None}


def locate(dataset: str) -> tuple[str, str]:
    """The source of a dataset, and the name under which its runs are kept.

    A folder's source is its absolute path, its name the last part of it.
    """
    if dataset in DOWNLOADED_OR_SHIPPED:
        return dataset, dataset
    try:
        if not dataset:
            raise ValueError("it is empty")
        folder = Path(dataset).expanduser().resolve()
    except (RuntimeError, ValueError) as error:
        raise DatasetNotFoundError(
            f"{EXPECTED}, received {dataset!r}, which is no path ({error})"
        ) from error
    return str(folder), folder.name


def run_name() -> str:
    """What Prefect calls this run, e.g. ``mlp on mnist``."""
    from prefect.runtime import flow_run

    parameters = flow_run.parameters
    name = parameters["name"] or locate(parameters["dataset"])[1]
    return f"{parameters['architecture']} on {name}"


def check_source(source: str) -> None:
    """See at once whether a folder has the four files, before anything is started.

    Raises:
        DatasetNotFoundError: If it has not.
    """
    if source not in DOWNLOADED_OR_SHIPPED:
        # Imported here: `digits history` asks for a dataset's name and needs no NumPy.
        from tasks.data.idx import find_files

        find_files(Path(source))
