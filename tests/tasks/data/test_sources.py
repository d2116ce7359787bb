import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Engine

from storage import records
from storage.errors import DatasetNotFoundError, InvalidParameterError
from storage.records import Bounds, Recipe
from storage.tables.database import open_database
from storage.tables.runs import Runs
from tasks import parameters
from tasks.data.dataset import Dataset
from tasks.data.sources import check_source, make_recipe, parameters_of


@pytest.fixture(scope="module")
def engine_of_all(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """One database for every example that is drawn."""
    return open_database(f"sqlite:///{tmp_path_factory.mktemp('rows')}/metrics.db")


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
        (parameters.Share, records.SHARE),
        (parameters.Margin, records.MARGIN),
    ],
)
def test_a_flow_parameter_has_the_bounds_of_the_recipe(parameter: Any, bounds: Bounds) -> None:
    flow = TypeAdapter(parameter)
    for value in (bounds.low, bounds.high):
        assert flow.validate_python(value) == value
    for value in (bounds.low - 1e-9, bounds.low - 1, bounds.high + 1, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            flow.validate_python(value)


def test_a_flow_takes_the_architectures_rules_and_names_of_the_recipe() -> None:
    rules = TypeAdapter(parameters.ChampionRule).json_schema()["enum"]
    assert rules == list(records.CHAMPION_RULES)
    assert TypeAdapter(parameters.Architecture).json_schema()["enum"] == list(records.ARCHITECTURES)
    name = TypeAdapter(parameters.Name)
    assert name.validate_python("mnist-5k") == "mnist-5k"
    for refused in ("", "../up", "a" * 65, "line\n"):
        with pytest.raises(ValidationError):
            name.validate_python(refused)


RECIPES = st.builds(
    Recipe,
    dataset=st.from_regex(records.NAME_PATTERN, fullmatch=True),
    source=st.sampled_from(["mnist", "mnist-5k", "/data/mine"]),
    architecture=st.sampled_from(records.ARCHITECTURES),
    epochs=st.integers(1, 1000),
    batch_size=st.integers(1, 65536),
    learning_rate=st.floats(1e-6, 1),
    seed=st.integers(0, 2**32 - 1),
    min_accuracy=st.floats(0, 1),
    confident=st.booleans(),
    min_recall=st.floats(0, 1),
    champion_rule=st.just("non-inferior"),
    margin=st.integers(0, 100_000),
    max_drift=st.floats(0, 1),
)


@hypothesis.settings(max_examples=25)
@given(drawn=RECIPES)
def test_what_a_row_says_is_enough_for_the_same_recipe(
    engine_of_all: Engine, drawn: Recipe
) -> None:
    runs = Runs(engine_of_all, lease_s=60.0)
    run = runs.get(runs.open(drawn, versions={}, host="here"))
    assert make_recipe(**parameters_of(run)) == drawn


def test_a_row_of_an_older_release_gives_what_it_knows_and_the_rest_is_as_usual(
    new_recipe: Callable[..., Recipe], engine: Engine, sql: sqlite3.Connection
) -> None:
    runs = Runs(engine, lease_s=60.0)
    old = new_recipe(dataset="mine", min_recall=0.3, max_drift=0.9, confident=True, epochs=4)
    run_id = runs.open(old, versions={}, host="here")
    sql.execute(
        "UPDATE runs SET confident = NULL, min_recall = NULL, champion_rule = NULL,"
        " margin = NULL, max_drift = NULL, corrections = NULL, corrections_share = NULL"
    )
    said = parameters_of(runs.get(run_id))
    assert said == {
        "dataset": "mnist-5k",
        "name": "mine",
        "architecture": "mlp",
        "epochs": 4,
        "batch_size": 100,
        "learning_rate": 0.001,
        "seed": 7,
        "min_accuracy": 0.5,
    }
    assert make_recipe(**said) == new_recipe(dataset="mine", epochs=4, min_recall=0.7)


def test_the_minimum_recall_is_the_datasets_own_unless_it_is_said() -> None:
    def recall(dataset: str, **said: float) -> float:
        return make_recipe(
            dataset=dataset, name="x", architecture="mlp", epochs=1, batch_size=1,
            learning_rate=0.1, seed=0, min_accuracy=None, **said,
        ).min_recall  # fmt: skip

    assert (recall("mnist"), recall("mnist-5k"), recall("a-folder")) == (0.8, 0.7, 0.8)
    assert recall("mnist-5k", min_recall=0.0) == 0.0
