"""From the given parameters to a recipe with every value filled in."""

import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.errors import DatasetNotFoundError
from storage.recipe import DATASET_CHOICES, DATASETS, DatasetDefaults, Recipe


def resolve(**given: Any) -> Recipe:
    """Make a recipe, and fill in what was left open: name, seed, minimum accuracy and recall.

    Args:
        **given: Parameters of ``Recipe``. Those that are missing or None take their defaults.

    Raises:
        DatasetNotFoundError: If the dataset is not a valid path. Nothing is opened here.
        InvalidParameterError: If a value is out of bounds.
    """
    values = {parameter: value for parameter, value in given.items() if value is not None}
    dataset, name = locate(values.get("dataset", Recipe.dataset))
    own = asdict(DATASETS.get(dataset, DatasetDefaults()))
    drawn = secrets.randbelow(2**32)
    return Recipe(**{"name": name, "seed": drawn, **own, **values, "dataset": dataset})


def locate(dataset: str) -> tuple[str, str]:
    """The dataset as ``Recipe`` has it, and the name that its runs are kept under by default.

    A folder becomes its absolute path; its name is the last part of it.
    """
    if dataset in DATASETS:
        return dataset, dataset
    try:
        if not dataset:
            raise ValueError("it is empty")
        folder = Path(dataset).expanduser().resolve()
    except (RuntimeError, ValueError) as error:
        raise DatasetNotFoundError(
            f"dataset: expected {DATASET_CHOICES}, received {dataset!r}, an invalid path ({error})"
        ) from error
    return str(folder), folder.name


def run_name() -> str:
    """What Prefect calls this run, e.g. ``mlp on mnist``."""
    from prefect.runtime import flow_run

    parameters = flow_run.parameters
    name = parameters["name"] or locate(parameters["dataset"])[1]
    return f"{parameters['architecture']} on {name}"


def check_dataset(dataset: str) -> None:
    """Check that a folder holds the four files, before anything is started.

    Raises:
        DatasetNotFoundError: If it does not.
    """
    if dataset not in DATASETS:
        # Imported here: `digits history` asks for a dataset's name and needs no NumPy.
        from tasks.data.idx import find_files

        find_files(Path(dataset))
