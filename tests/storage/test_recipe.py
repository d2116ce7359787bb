"""The recipe's declarations, and what follows from them."""

import dataclasses
import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from storage.errors import InvalidParameterError
from storage.recipe import (
    ARCHITECTURES,
    CHAMPIONS,
    DATASETS,
    ArchitectureDefaults,
    DatasetDefaults,
    Epochs,
    Name,
    Network,
    OrChampions,
    OrDefault,
    Parameter,
    Recipe,
    Seed,
    parameters,
    parameters_of,
)

NAME_CHARACTERS = string.ascii_letters + string.digits + "._-"
BY_NAME = {parameter.name: parameter for parameter in parameters()}
NUMBERS = [parameter for parameter in parameters() if parameter.bounds]
ANYTHING = st.floats() | st.integers() | st.text() | st.booleans() | st.none()


def test_defaults_bounds_and_choices_are_pinned() -> None:
    assert {name: p.default for name, p in BY_NAME.items()} == {
        "dataset": "mnist",
        "name": None,
        "architecture": "mlp",
        "epochs": None,
        "max_minutes": 0,
        "batch_size": None,
        "learning_rate": None,
        "seed": None,
        "min_accuracy": None,
        "confident": False,
        "min_recall": None,
        "champion_rule": "not-worse",
        "margin": 0,
        "robust": False,
        "max_drift": 0.2,
        "accept_change": False,
        "corrections": False,
        "corrections_share": 0.1,
        "max_hours": 8,
    }
    assert {p.name: p.expected for p in NUMBERS} == {
        "epochs": "a whole number from 1 to 1000",
        "max_minutes": "a number from 0 to 10000",
        "batch_size": "a whole number from 1 to 65536",
        "learning_rate": "a number from 1e-06 to 1",
        "seed": "a whole number from 0 to 4294967295",
        "min_accuracy": "a number from 0 to 1",
        "min_recall": "a number from 0 to 1",
        "margin": "a whole number from 0 to 100000",
        "max_drift": "a number from 0 to 1",
        "corrections_share": "a number from 0 to 0.5",
        "max_hours": "a number from 0.001 to 168",
    }
    assert get_args(Network) == ("mlp", "cnn", "convnet", "convnet-deep")
    assert {
        "mlp": ArchitectureDefaults(epochs=10, batch_size=128, learning_rate=0.001),
        "cnn": ArchitectureDefaults(epochs=10, batch_size=128, learning_rate=0.001),
        "convnet": ArchitectureDefaults(epochs=13, batch_size=128, learning_rate=0.004),
        "convnet-deep": ArchitectureDefaults(epochs=38, batch_size=128, learning_rate=0.003),
    } == ARCHITECTURES
    assert BY_NAME["champion_rule"].choices == ("not-worse", "better", "non-inferior")
    assert {
        "mnist": DatasetDefaults(min_accuracy=0.97, min_recall=0.8),
        "mnist-5k": DatasetDefaults(min_accuracy=0.9, min_recall=0.7),
    } == DATASETS
    assert DatasetDefaults() == DATASETS["mnist"], "a folder has the defaults of mnist"


@pytest.mark.parametrize("parameter", parameters(), ids=lambda parameter: parameter.name)
def test_every_parameter_says_what_it_is_in_one_line(parameter: Parameter) -> None:
    assert parameter.help.endswith(".")
    assert "\n" not in parameter.help + parameter.expected
    assert parameter.default is None or parameter.allows(parameter.default)


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda parameter: parameter.name)
@given(value=st.floats() | st.integers() | st.text(max_size=3))
@example(math.nan)
@example(math.inf)
@example(-math.inf)
@example(10**400)
@example(0)
@example(1)
@example(0.5)
@example(1000)
@example(2**32 - 1)
@example(2**32)
@example("1")
def test_a_number_is_accepted_only_between_its_bounds(parameter: Parameter, value: Any) -> None:
    kind = int if parameter.kind is int else (int, float)
    assert parameter.bounds
    low, high = parameter.bounds
    inside = isinstance(value, kind) and low <= value <= high
    if inside:
        parameter.check(value)
    else:
        with pytest.raises(InvalidParameterError) as refused:
            parameter.check(value)
        expected = f"{parameter.name}: expected {parameter.expected}, received {value!r}"
        assert str(refused.value) == expected
        assert refused.value.exit_code == 2


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda parameter: parameter.name)
def test_both_bounds_are_allowed_and_values_outside_them_are_not(
    new_recipe: Callable[..., Recipe], parameter: Parameter
) -> None:
    assert parameter.bounds
    low, high = parameter.bounds
    step = 1 if parameter.kind is int else 1e-9
    usual = {"champion_rule": "non-inferior", "max_hours": 168.0}
    for value in (low, high):
        made = new_recipe(**usual | {parameter.name: parameter.kind(value)})
        assert getattr(made, parameter.name) == value
    for value in (low - step, high + step, math.nan, None, "1"):
        with pytest.raises(InvalidParameterError, match=f"^{parameter.name}: expected "):
            new_recipe(**usual | {parameter.name: value})


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda parameter: parameter.name)
def test_prefects_form_refuses_a_number_out_of_bounds(parameter: Parameter) -> None:
    assert parameter.bounds
    low, high = parameter.bounds
    step = 1 if parameter.kind is int else 1e-9
    declared = {field.name: field.type for field in dataclasses.fields(Recipe)}
    form: TypeAdapter[Any] = TypeAdapter(declared[parameter.name])
    assert [form.validate_python(parameter.kind(value)) for value in (low, high)] == [low, high]
    for value in (low - step, high + step, math.nan, math.inf, -math.inf):
        with pytest.raises(ValidationError):
            form.validate_python(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "resnet"}, "architecture: expected mlp, cnn, convnet, convnet-deep or"),
        ({"architecture": "a b:c"}, "package.module:function, received 'a b:c'; such a function"),
        ({"architecture": "a:b.c"}, "package.module:function, received 'a:b.c'; such a function"),
        ({"champion_rule": "best"}, "champion_rule: expected one of not-worse, better, non-inf"),
        ({"confident": "yes"}, "confident: expected true or false, received 'yes'"),
        ({"corrections": 1}, "corrections: expected true or false, received 1"),
        ({"dataset": 5}, "dataset: expected text, received 5"),
        ({"max_minutes": 60.0, "max_hours": 1.0}, r"max_minutes: expected less than .*\(1 h\)"),
        ({"margin": 1}, "margin: expected 0 with the champion rule not-worse, received 1"),
        ({"margin": 1, "champion_rule": "better"}, "only non-inferior has a margin"),
    ],
)
def test_a_recipe_rejects_wrong_types_unknown_choices_and_a_margin_without_its_rule(
    new_recipe: Callable[..., Recipe], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        new_recipe(**values)


@pytest.mark.parametrize("parameter", parameters(), ids=lambda parameter: parameter.name)
@given(value=ANYTHING)
@example(0)
@example(1)
@example("mlp")
def test_a_recipe_is_made_of_allowed_values_only(
    new_recipe: Callable[..., Recipe], parameter: Parameter, value: Any
) -> None:
    values = {"champion_rule": "non-inferior", "max_hours": 168.0, parameter.name: value}
    if parameter.allows(value):
        assert getattr(new_recipe(**values), parameter.name) == value
    else:
        with pytest.raises(InvalidParameterError, match=f"^{parameter.name}: expected "):
            new_recipe(**values)


@given(name=st.text(max_size=70) | st.text(NAME_CHARACTERS + "/ \n\x00é", max_size=70))
@example("a" * 64)
@example("a" * 65)
@example("a\n")
@example("..")
@example("٣")
def test_a_name_is_accepted_only_if_it_is_one_safe_part_of_a_path(
    new_recipe: Callable[..., Recipe], name: str
) -> None:
    form = TypeAdapter(OrDefault[Name])
    safe = (
        1 <= len(name) <= 64
        and all(character in NAME_CHARACTERS for character in name)
        and name[0] not in "._-"
    )
    if safe:
        assert new_recipe(name=name).name == form.validate_python(name) == name
        assert Path("/models", name).resolve().parent == Path("/models")
    else:
        with pytest.raises(InvalidParameterError, match=r"^name: expected .*--name$"):
            new_recipe(name=name)
        with pytest.raises(ValidationError):
            form.validate_python(name)


def test_the_columns_of_a_run_keep_their_names(new_recipe: Callable[..., Recipe]) -> None:
    recipe = new_recipe(dataset="/data/mine", name="mine")
    columns = recipe.columns()
    assert (columns.pop("source"), columns.pop("dataset")) == ("/data/mine", "mine")
    assert columns == {k: v for k, v in vars(recipe).items() if k not in {"dataset", "name"}}


def test_prefects_form_shows_bounds_and_help_also_where_a_value_may_be_left_open() -> None:
    assert TypeAdapter(Epochs).json_schema() == {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "description": BY_NAME["epochs"].help,
    }
    seed = TypeAdapter(OrDefault[Seed]).json_schema()
    assert seed == {
        "anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, {"type": "null"}],
        "description": BY_NAME["seed"].help,
    }


def test_prefects_form_says_that_what_is_left_empty_is_as_the_champions() -> None:
    epochs = TypeAdapter(OrChampions[Epochs]).json_schema()
    assert epochs == {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": 1000}, {"type": "null"}],
        "description": BY_NAME["epochs"].help + " Empty: as the champion's.",
    }
    assert CHAMPIONS == ("architecture", "epochs", "batch_size", "learning_rate")


def test_the_help_names_the_datasets_and_architectures_that_differ() -> None:
    assert "default: 10, for convnet 13, convnet-deep 38." in BY_NAME["epochs"].help
    assert "default: 128." in BY_NAME["batch_size"].help
    assert "default: 0.97, for mnist-5k 0.9." in BY_NAME["min_accuracy"].help
    assert "default: 0.8, for mnist-5k 0.7." in BY_NAME["min_recall"].help


def test_the_parameters_of_a_run_come_from_its_row_without_those_that_are_replaced(
    new_recipe: Callable[..., Recipe],
) -> None:
    recipe = new_recipe(dataset="/data/mine", name="mine", champion_rule="non-inferior", margin=3)
    of_this_run = {"accept_change": False, "max_minutes": 0}
    assert parameters_of(recipe.columns()) | of_this_run == vars(recipe)
    assert parameters_of({"source": "mnist", "margin": None}) == {"dataset": "mnist"}

    without = parameters_of(recipe.columns(), frozenset({"dataset", "epochs"}))
    assert vars(recipe).keys() - without.keys() == {
        "dataset", "name", "min_accuracy", "min_recall", "epochs", *of_this_run,
    }  # fmt: skip
    without = parameters_of(recipe.columns(), frozenset({"champion_rule"}))
    assert vars(recipe).keys() - without.keys() == {"champion_rule", "margin", *of_this_run}


def test_a_recipe_cannot_be_changed(new_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        new_recipe().epochs = 3  # type: ignore[misc]
