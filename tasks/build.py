"""Build: the networks, by the name of their architecture."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.recipe import Recipe

if TYPE_CHECKING:
    import keras


@task(cache_policy=NO_CACHE)
def build(recipe: Recipe) -> keras.Model:
    """Make a compiled network with fresh weights.

    ``mlp`` is Dense 512 relu, Dense 10 softmax, with rmsprop. ``cnn`` is two convolutions
    with pooling and dropout, with adam: slower, and about a point better on MNIST.

    Args:
        recipe: Its architecture, learning rate and seed decide.

    Returns:
        Takes float32 of shape (n, 784) in [0, 1], gives float32 of shape (n, 10):
        the probability of each digit.
    """
    import keras
    from keras import layers

    # Left to itself Keras draws them from Python's global generator, as Prefect's threads do.
    seeds = random.Random(recipe.seed)

    def glorot() -> keras.Initializer:
        return keras.initializers.GlorotUniform(seed=seeds.randint(1, 10**9))

    if recipe.architecture == "mlp":
        hidden = [layers.Dense(512, activation="relu", kernel_initializer=glorot())]
        optimizer = keras.optimizers.RMSprop(recipe.learning_rate)
    else:
        hidden = [
            layers.Reshape((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu", kernel_initializer=glorot()),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu", kernel_initializer=glorot()),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5, seed=seeds.randint(1, 10**9)),
        ]
        optimizer = keras.optimizers.Adam(recipe.learning_rate)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            *hidden,
            layers.Dense(10, activation="softmax", kernel_initializer=glorot()),
        ],
        name=recipe.architecture,
    )
    model.compile(optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    return model
