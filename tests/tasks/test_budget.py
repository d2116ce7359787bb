from collections.abc import Callable
from dataclasses import replace

import pytest

from storage.recipe import Recipe
from tasks.budget import budget
from tasks.preprocess import preprocess


def test_a_recipe_without_a_time_keeps_its_epochs(new_recipe: Callable[..., Recipe], few) -> None:
    recipe = new_recipe(epochs=3)
    made = budget.fn(recipe, preprocess.fn(few)[0])
    assert made.recipe == recipe
    assert made.columns() == {"epochs": 3}


def test_more_time_is_more_epochs_and_the_rest_of_the_recipe_stays(
    new_recipe: Callable[..., Recipe], few
) -> None:
    examples = preprocess.fn(few)[0]
    recipe = new_recipe(epochs=10, max_minutes=0.02)
    short, long = (
        budget.fn(replace(recipe, max_minutes=minutes), examples).recipe for minutes in (0.02, 0.2)
    )
    assert 1 <= short.epochs < long.epochs < 1000
    assert replace(short, epochs=10) == recipe


@pytest.mark.parametrize(("minutes", "epochs"), [(1e-9, 1), (10_000, 1000)])
def test_an_absurd_time_is_one_epoch_at_least_and_a_thousand_at_most(
    new_recipe: Callable[..., Recipe], few, minutes: float, epochs: int
) -> None:
    recipe = new_recipe(epochs=10, max_minutes=minutes)
    made = budget.fn(recipe, preprocess.fn(few)[0])
    assert made.recipe.epochs == made.columns()["epochs"] == epochs
