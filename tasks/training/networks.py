"""The networks: one function per architecture, each with its own optimizer.

A new one needs its name in ``storage.recipe.Network``, and here a function and its case. Without
them the type check fails.
"""

import random
from collections.abc import Iterator
from typing import assert_never, cast

from keras import Input, Model, Sequential, layers, optimizers
from keras.initializers import GlorotUniform

from storage.recipe import Network, Recipe
from tasks.training.custom import make_custom_network


def make_network(recipe: Recipe) -> Model:
    """Make the network that the recipe names, compiled, with fresh weights.

    Raises:
        InvalidParameterError: See ``make_custom_network``.
    """
    if ":" in recipe.architecture:
        return make_custom_network(recipe)
    architecture = cast(Network, recipe.architecture)
    match architecture:
        case "mlp":
            return mlp(recipe)
        case "cnn":
            return cnn(recipe)
        case _:
            assert_never(architecture)


def mlp(recipe: Recipe) -> Model:
    """Dense 512 relu, Dense 10 softmax, with rmsprop."""
    seeds = layer_seeds(recipe.seed)
    model = Sequential(
        [
            Input((784,)),
            layers.Dense(512, activation="relu", kernel_initializer=GlorotUniform(next(seeds))),
            layers.Dense(10, activation="softmax", kernel_initializer=GlorotUniform(next(seeds))),
        ],
        name="mlp",
    )
    model.compile(
        optimizers.RMSprop(recipe.learning_rate), "categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def cnn(recipe: Recipe) -> Model:
    """Two convolutions with pooling and dropout, with adam: slower, a point better on MNIST."""
    seeds = layer_seeds(recipe.seed)
    model = Sequential(
        [
            Input((784,)),
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", kernel_initializer=GlorotUniform(next(seeds))),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu", kernel_initializer=GlorotUniform(next(seeds))),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5, seed=next(seeds)),
            layers.Dense(10, activation="softmax", kernel_initializer=GlorotUniform(next(seeds))),
        ],
        name="cnn",
    )
    model.compile(
        optimizers.Adam(recipe.learning_rate), "categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def layer_seeds(seed: int) -> Iterator[int]:
    """A seed for each layer.

    Left to itself, Keras draws them from Python's global generator, and so do Prefect's threads.
    """
    generator = random.Random(seed)
    while True:
        yield generator.randint(1, 10**9)
