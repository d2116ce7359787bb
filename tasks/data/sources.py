"""From the given parameters to a recipe with every value filled in."""

import logging
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from storage.errors import DatasetNotFoundError, InvalidParameterError, ModelStoreError
from storage.models.store import open_store
from storage.recipe import (
    ARCHITECTURES,
    CHAMPIONS,
    DATASET_CHOICES,
    DATASETS,
    DEEP_FROM_MINUTES,
    ArchitectureDefaults,
    DatasetDefaults,
    Recipe,
)
from storage.settings import Settings

log = logging.getLogger("digits")


def resolve(**given: Any) -> Recipe:
    """Make a recipe, and fill in what was left open.

    The name and the minimum accuracy and recall follow from the dataset; epochs, batch size and
    learning rate from the architecture; the seed is drawn.

    Args:
        **given: Parameters of ``Recipe``. Those that are missing or None take their defaults.

    Raises:
        DatasetNotFoundError: If the dataset is not a valid path. Nothing is opened here.
        InvalidParameterError: If a value is out of bounds.
    """
    values = {parameter: value for parameter, value in given.items() if value is not None}
    dataset, name = locate(values.get("dataset", Recipe.dataset))
    architecture = values.get("architecture", Recipe.architecture)
    own = asdict(DATASETS.get(dataset, DatasetDefaults()))
    own |= asdict(ARCHITECTURES.get(architecture, ArchitectureDefaults()))
    drawn = secrets.randbelow(2**32)
    recipe = Recipe(**{"name": name, "seed": drawn, **own, **values, "dataset": dataset})
    if recipe.max_minutes and "epochs" in values:
        raise InvalidParameterError(
            f"epochs: expected none beside max_minutes ({recipe.max_minutes:g}), received"
            f" {recipe.epochs}; give one of them"
        )
    if recipe.architecture == "convnet" and recipe.max_minutes >= DEEP_FROM_MINUTES:
        return resolve(**values | {"architecture": "convnet-deep"})
    return recipe


def resolve_night(settings: Settings, **given: Any) -> Recipe:
    """Make a recipe in which the parameters of CHAMPIONS that were left open are the champion's.

    So the night trains what was promoted. The defaults apply without a champion, if it cannot be
    read, and to an architecture other than the champion's. Parameters and errors are those of
    ``resolve``.
    """
    recipe = resolve(**given)
    try:
        champion = open_store(settings, recipe.name).read_champion()
    except ModelStoreError as error:
        log.warning("the champion's recipe cannot be read, the defaults apply: %s", error)
        champion = None
    manifest = champion[1].manifest if champion else {}
    if given.get("architecture") not in {None, manifest.get("architecture")}:
        return recipe
    decided = {name for name, value in given.items() if value is not None}
    if recipe.max_minutes:
        decided.add("epochs")
    left_open = [name for name in CHAMPIONS if name in manifest and name not in decided]
    night = resolve(**given | {name: manifest[name] for name in left_open})
    if night.architecture != manifest.get("architecture"):  # it has time for the deeper network
        return resolve(**given | {"architecture": night.architecture})
    return night


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
