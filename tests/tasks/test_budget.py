from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from storage.recipe import Recipe
from tasks import budget as module
from tasks.budget import budget
from tasks.data.dataset import Dataset
from tasks.preprocess import Examples, preprocess


@pytest.fixture(scope="module")
def examples(few: Dataset) -> Examples:
    return preprocess.fn(few)[0][:100]


def test_a_recipe_without_a_time_keeps_its_epochs(
    new_recipe: Callable[..., Recipe], examples: Examples
) -> None:
    recipe = new_recipe(epochs=3)
    made = budget.fn(recipe, examples)
    assert made.recipe == recipe
    assert made.columns() == {"epochs": 3}


def test_some_steps_are_timed_and_the_rest_of_the_recipe_stays(
    new_recipe: Callable[..., Recipe], examples: Examples
) -> None:
    recipe = new_recipe(epochs=10, max_minutes=0.2, batch_size=50)
    made = budget.fn(recipe, examples)
    assert 1 <= made.recipe.epochs == made.columns()["epochs"] <= 1000
    assert replace(made.recipe, epochs=10) == recipe


@pytest.mark.parametrize(
    ("minutes", "held_out", "epochs"),
    [
        # The first of six rounds of 100 images compiles for 4 s; the median of the others is 2 s,
        # and an epoch takes 5 % more.
        (1, 0, 26),
        (1, 60, 66),  # an epoch has 40 images
        (0.05, 0, 1),
        (1e-9, 0, 1),
        (300, 0, 1000),
    ],
)
def test_the_epochs_are_those_that_the_time_allows(
    new_recipe: Callable[..., Recipe],
    examples: Examples,
    monkeypatch: pytest.MonkeyPatch,
    minutes: float,
    held_out: int,
    epochs: int,
) -> None:
    """The durations are given: what a machine needs is known to nobody."""
    monkeypatch.setattr(module, "_seconds", lambda *_: [6.0, 1.9, 2.0, 2.1, 9.0, 2.0])
    recipe = new_recipe(epochs=10, max_minutes=minutes)
    mask = np.arange(100) < held_out
    assert budget.fn(recipe, examples, mask).recipe.epochs == epochs
