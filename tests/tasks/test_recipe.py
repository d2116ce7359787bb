from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from storage import records
from storage.errors import DatasetNotFoundError, InvalidParameterError
from storage.records import Bounds, Recipe
from tasks import parameters
from tasks.load import Dataset
from tasks.recipe import check_source, make_recipe


def recipe_of(dataset: str, **values: Any) -> Recipe:
    """A recipe in which everything that may be left open is, but for what is given."""
    usual = {
        "name": None,
        "architecture": "mlp",
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 0.001,
        "seed": None,
        "min_accuracy": None,
    }
    return make_recipe(dataset=dataset, **{**usual, **values})


@pytest.mark.parametrize(("name", "min_accuracy"), [("mnist", 0.97), ("mnist-5k", 0.90)])
def test_a_dataset_by_name_has_its_own_minimum_and_keeps_its_name(
    name: str, min_accuracy: float
) -> None:
    recipe = recipe_of(name)
    assert (recipe.dataset, recipe.source) == (name, name)
    assert recipe.min_accuracy == min_accuracy


def test_a_folder_is_known_by_its_last_part_and_used_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for told in (str(tmp_path / "mine"), f"{tmp_path}/mine/", "../mine", "~/mine"):
        recipe = recipe_of(told)
        assert (recipe.dataset, recipe.source) == ("mine", str(tmp_path / "mine"))
        assert recipe.min_accuracy == 0.97


def test_what_is_said_goes_before_what_is_left_open() -> None:
    recipe = recipe_of("/data/mnist-5k", name="other", seed=5, min_accuracy=0.0)
    assert (recipe.dataset, recipe.source) == ("other", "/data/mnist-5k")
    assert (recipe.seed, recipe.min_accuracy) == (5, 0.0)


def test_a_seed_that_is_left_open_is_drawn_anew_within_its_bounds() -> None:
    seeds = {recipe_of("mnist").seed for _ in range(50)}
    assert len(seeds) > 45
    assert all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("folder", ["/", "/data/my digits", "/data/.hidden", "/data/ziffern-ä"])
def test_a_folder_whose_name_cannot_be_kept_is_refused_with_a_way_out(folder: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"^name: expected .* choose one with --name$"):
        recipe_of(folder)
    assert recipe_of(folder, name="mine").source == folder


@pytest.mark.parametrize("dataset", ["~nobody-of-this-name/digits", "nul\0byte"])
def test_what_can_be_no_path_is_refused_as_a_dataset(dataset: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"^dataset: expected mnist, mnist-5k or"):
        recipe_of(dataset, name="mine")


def test_a_folder_is_checked_before_anything_starts(
    few: Dataset, write_idx: Callable[..., Path], tmp_path: Path
) -> None:
    for source in ("mnist", "mnist-5k", str(write_idx(few))):
        check_source(source)
    for source in ("/data/missing", str(tmp_path)):
        with pytest.raises(DatasetNotFoundError):
            check_source(source)


@pytest.mark.parametrize(
    ("parameter", "bounds"),
    [
        (parameters.Epochs, records.EPOCHS),
        (parameters.BatchSize, records.BATCH_SIZE),
        (parameters.LearningRate, records.LEARNING_RATE),
        (parameters.Seed, records.SEED),
        (parameters.MinAccuracy, records.MIN_ACCURACY),
    ],
)
def test_a_flow_parameter_has_the_bounds_of_the_recipe(parameter: Any, bounds: Bounds) -> None:
    flow = TypeAdapter(parameter)
    for value in (bounds.low, bounds.high):
        assert flow.validate_python(value) == value
    for value in (bounds.low - 1e-9, bounds.low - 1, bounds.high + 1, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            flow.validate_python(value)


def test_a_flow_takes_the_architectures_and_names_of_the_recipe() -> None:
    assert TypeAdapter(parameters.Architecture).json_schema()["enum"] == list(records.ARCHITECTURES)
    name = TypeAdapter(parameters.Name)
    assert name.validate_python("mnist-5k") == "mnist-5k"
    for refused in ("", "../up", "a" * 65, "line\n"):
        with pytest.raises(ValidationError):
            name.validate_python(refused)
