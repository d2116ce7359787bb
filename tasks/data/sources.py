"""From the given parameters to a recipe with every value filled in."""

import logging
import secrets
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from storage.errors import DatasetNotFoundError, ModelStoreError
from storage.models.store import open_store
from storage.recipe import CHAMPIONS, DATASET_CHOICES, DATASETS, DatasetDefaults, Recipe
from storage.settings import Settings

log = logging.getLogger("digits")


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


def resolve_night(settings: Settings, **given: Any) -> Recipe:
    """Make a recipe in which the parameters of CHAMPIONS that were left open are the champion's.

    So the night trains what was promoted. Without a champion, or if it cannot be read, the
    defaults apply. Parameters and errors are those of ``resolve``.
    """
    recipe = resolve(**given)
    try:
        champion = open_store(settings, recipe.name).read_champion()
    except ModelStoreError as error:
        log.warning("the champion's recipe cannot be read, the defaults apply: %s", error)
        champion = None
    manifest = champion[1].manifest if champion else {}
    left_open = [name for name in CHAMPIONS if given.get(name) is None]
    return replace(recipe, **{name: manifest[name] for name in left_open if name in manifest})


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
    """What Prefect calls this run, e.g. ``mlp on mnist`` or ``champion's recipe on mnist``."""
    from prefect.runtime import flow_run

    parameters = flow_run.parameters
    name = parameters["name"] or locate(parameters["dataset"])[1]
    architecture = parameters["architecture"] or "champion's recipe"
    return f"{architecture} on {name}"


def check_dataset(dataset: str) -> None:
    """Check that a folder holds the four files, before anything is started.

    Raises:
        DatasetNotFoundError: If it does not.
    """
    if dataset not in DATASETS:
        # Imported here: `digits history` asks for a dataset's name and needs no NumPy.
        from tasks.data.idx import find_files

        find_files(Path(dataset))
