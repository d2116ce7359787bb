import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from storage.errors import DatasetNotFoundError, InvalidParameterError
from storage.models.store import open_store
from storage.recipe import DATASETS, Parameter, Recipe, parameters, parameters_of
from storage.settings import Settings
from storage.tables.database import open_database
from storage.tables.runs import Runs
from tasks.data.dataset import Dataset
from tasks.data.sources import check_dataset, resolve, resolve_night


@pytest.fixture(scope="module")
def engine_of_all(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """One database for every example that is drawn."""
    return open_database(f"sqlite:///{tmp_path_factory.mktemp('rows')}/metrics.db")


@pytest.mark.parametrize(("name", "min_accuracy"), [("mnist", 0.97), ("mnist-5k", 0.90)])
def test_a_dataset_by_name_has_its_own_minimum_and_keeps_its_name(
    name: str, min_accuracy: float
) -> None:
    recipe = resolve(dataset=name)
    assert (recipe.name, recipe.dataset) == (name, name)
    assert recipe.min_accuracy == min_accuracy


def test_a_folder_is_known_by_its_last_part_and_used_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for told in (str(tmp_path / "mine"), f"{tmp_path}/mine/", "../mine", "~/mine"):
        recipe = resolve(dataset=told)
        assert (recipe.name, recipe.dataset) == ("mine", str(tmp_path / "mine"))
        assert recipe.min_accuracy == 0.97


def test_a_given_value_takes_precedence_over_the_datasets_default() -> None:
    recipe = resolve(dataset="/data/mnist-5k", name="other", seed=5, min_accuracy=0.0)
    assert (recipe.name, recipe.dataset) == ("other", "/data/mnist-5k")
    assert (recipe.seed, recipe.min_accuracy) == (5, 0.0)


def test_a_seed_that_is_not_given_is_drawn_within_its_bounds() -> None:
    seeds = {resolve(dataset="mnist").seed for _ in range(50)}
    assert len(seeds) > 45
    assert all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("folder", ["/", "/data/my digits", "/data/.hidden", "/data/ziffern-ä"])
def test_a_folder_whose_name_cannot_be_kept_is_refused_with_a_way_out(folder: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"^name: expected .* choose one with --name$"):
        resolve(dataset=folder)
    assert resolve(dataset=folder, name="mine").dataset == folder


@pytest.mark.parametrize("dataset", ["~nobody-of-this-name/digits", "nul\0byte"])
def test_text_that_cannot_be_a_path_is_rejected_as_a_dataset(dataset: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"^dataset: expected mnist, mnist-5k or"):
        resolve(dataset=dataset, name="mine")


def test_a_folder_is_checked_before_anything_starts(
    few: Dataset, write_idx: Callable[..., Path], tmp_path: Path
) -> None:
    for source in ("mnist", "mnist-5k", str(write_idx(few))):
        check_dataset(source)
    for source in ("/data/missing", str(tmp_path)):
        with pytest.raises(DatasetNotFoundError):
            check_dataset(source)


def values_of(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Any value that a parameter may have."""
    if parameter.bounds:
        numbers = st.integers if parameter.kind is int else st.floats
        return numbers(*parameter.bounds)
    if parameter.pattern:
        return st.from_regex(parameter.pattern.regex, fullmatch=True)
    if parameter.name == "dataset":
        return st.sampled_from([*DATASETS, "/data/mine"])
    return st.sampled_from(parameter.choices) if parameter.choices else st.booleans()


DRAWN = {parameter.name: values_of(parameter) for parameter in parameters()}
ALLOWED = {"champion_rule": st.just("non-inferior"), "max_minutes": st.just(0)}
RECIPES = st.builds(Recipe, **{**DRAWN, **ALLOWED})


@hypothesis.settings(max_examples=25)
@given(drawn=RECIPES)
def test_the_same_recipe_can_be_built_from_a_row(engine_of_all: Engine, drawn: Recipe) -> None:
    runs = Runs(engine_of_all, lease_s=60.0)
    run = runs.get(runs.open(drawn, versions={}, host="here"))
    # What a person accepted for one run is not accepted for its repetition.
    assert resolve(**parameters_of(run.as_dict())) == replace(drawn, accept_change=False)


def test_a_row_of_an_older_release_gives_its_values_and_defaults_for_the_rest(
    new_recipe: Callable[..., Recipe], engine: Engine, sql: sqlite3.Connection
) -> None:
    runs = Runs(engine, lease_s=60.0)
    old = new_recipe(name="mine", min_recall=0.3, max_drift=0.9, confident=True, epochs=4)
    run_id = runs.open(old, versions={}, host="here")
    sql.execute(
        "UPDATE runs SET confident = NULL, min_recall = NULL, champion_rule = NULL,"
        " margin = NULL, max_drift = NULL, corrections = NULL, corrections_share = NULL,"
        " robust = NULL, max_hours = NULL"
    )
    said = parameters_of(runs.get(run_id).as_dict())
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
    assert resolve(**said) == new_recipe(name="mine", epochs=4, min_recall=0.7)


def test_the_minimum_recall_is_the_datasets_own_unless_it_is_given() -> None:
    own = [resolve(dataset=dataset).min_recall for dataset in ("mnist", "mnist-5k", "a-folder")]
    assert own == [0.8, 0.7, 0.8]
    assert resolve(dataset="mnist-5k", min_recall=0.0).min_recall == 0.0


@pytest.fixture
def champions_recipe(settings: Settings, tiny_model: Callable[[Path], None]) -> Recipe:
    """What the champion of mnist-5k was made with."""
    made = resolve(
        dataset="mnist-5k", architecture="cnn", epochs=3, batch_size=64, learning_rate=0.002,
        min_accuracy=0.5, seed=5,
    )  # fmt: skip
    store = open_store(settings, made.name)
    digest = store.stage("run-1", tiny_model, made.columns())
    store.promote("run-1", digest, None, actor="test", reason="asked")
    return made


def learning(recipe: Recipe) -> tuple[str, int, int, float]:
    return recipe.architecture, recipe.epochs, recipe.batch_size, recipe.learning_rate


def test_what_a_night_leaves_open_is_as_the_champions(
    settings: Settings, champions_recipe: Recipe
) -> None:
    open_ones = dict.fromkeys(["name", "architecture", "epochs", "batch_size", "learning_rate"])
    recipe = resolve_night(settings, dataset="mnist-5k", **open_ones)
    assert learning(recipe) == ("cnn", 3, 64, 0.002)
    assert recipe.min_accuracy == 0.9, "the gate's parameters are not the champion's"
    assert recipe.seed != champions_recipe.seed


def test_what_a_night_is_given_goes_before_the_champions(
    settings: Settings, champions_recipe: Recipe
) -> None:
    recipe = resolve_night(settings, dataset="mnist-5k", architecture="mlp", epochs=7)
    assert learning(recipe) == ("mlp", 7, 128, 0.001), "another network has its own defaults"
    recipe = resolve_night(settings, dataset="mnist-5k", architecture="cnn", epochs=7)
    assert learning(recipe) == ("cnn", 7, 64, 0.002)
    assert learning(resolve(dataset="mnist-5k")) == ("mlp", 10, 128, 0.001)
    assert learning(resolve_night(settings, dataset="mnist")) == ("mlp", 10, 128, 0.001)


def test_a_time_for_the_training_stands_in_for_epochs_and_may_pay_for_the_deeper_network(
    settings: Settings, champions_recipe: Recipe
) -> None:
    names = [
        resolve(architecture="convnet", max_minutes=minutes).architecture for minutes in (7.9, 8)
    ]
    assert names == ["convnet", "convnet-deep"]
    assert resolve(architecture="mlp", max_minutes=60).architecture == "mlp"
    assert resolve_night(settings, dataset="mnist-5k", max_minutes=5).epochs == 10
    with pytest.raises(InvalidParameterError, match=r"^epochs: expected none beside max_minutes"):
        resolve(max_minutes=5, epochs=3)


def test_a_night_with_time_for_the_deeper_network_trains_it_with_its_own_learning_rate(
    settings: Settings, tiny_model: Callable[[Path], None]
) -> None:
    made = resolve(dataset="mnist-5k", architecture="convnet", batch_size=64)
    store = open_store(settings, made.name)
    digest = store.stage("run-1", tiny_model, made.columns())
    store.promote("run-1", digest, None, actor="test", reason="asked")
    assert learning(resolve_night(settings, dataset="mnist-5k")) == ("convnet", 13, 64, 0.004)
    deep = resolve_night(settings, dataset="mnist-5k", max_minutes=45)
    assert learning(deep) == ("convnet-deep", 38, 128, 0.003)


def test_a_champion_that_cannot_be_read_leaves_the_defaults(
    settings: Settings, champions_recipe: Recipe
) -> None:
    (settings.home / "models/mnist-5k/versions/run-1/manifest.json").write_text("{")
    assert learning(resolve_night(settings, dataset="mnist-5k")) == ("mlp", 10, 128, 0.001)
