"""Build: the network that the recipe names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.recipe import Recipe
from tasks.training.keras_import import wait_for_keras

if TYPE_CHECKING:
    import keras


@task(cache_policy=NO_CACHE)
def build(recipe: Recipe) -> keras.Model:
    """Make a compiled network with fresh weights.

    Returns:
        Takes float32 of shape (n, 784) in [0, 1], returns float32 of shape (n, 10):
        the probability of each digit.

    Raises:
        InvalidParameterError: If the architecture is a function that cannot be imported, or
            returns a model that does not fit.
        KerasError: See ``wait_for_keras``.
    """
    wait_for_keras()
    from tasks.training.networks import architecture_of

    return architecture_of(recipe).make(recipe)
