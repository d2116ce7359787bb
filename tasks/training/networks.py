"""The networks: one declaration per architecture, of how it is made, trained and served.

A new one needs its name and defaults in ``storage.recipe``, and here its case: mypy reports a name
without one.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never, cast

from keras import Input, KerasTensor, Model, Sequential, layers, optimizers
from keras.initializers import GlorotUniform, HeNormal
from keras.optimizers.schedules import CosineDecay

from storage.recipe import Network, Recipe
from tasks.training.augment import Augment, make_augmentation
from tasks.training.batch_norm import FusedBatchNormalization
from tasks.training.custom import make_custom_network
from tasks.training.precision import training_precision


@dataclass(frozen=True)
class Architecture:
    """How a network is made, trained and served.

    Args:
        make: Makes the network that is trained, compiled, with fresh weights.
        make_served: Makes the network that takes the trained weights over, in float32, with layers
            of Keras' own; None if it is the same.
        schedule: Makes the learning rate from its peak and the number of steps; None for a constant
            rate.
        augmentation: Makes the augmentation from the seed; None for none.
        holds_out: Whether the validation part of the training images is not trained on.
    """

    make: Callable[[Recipe], Model]
    make_served: Callable[[Recipe], Model] | None = None
    schedule: Callable[[float, int], CosineDecay] | None = None
    augmentation: Callable[[int], Augment] | None = None
    holds_out: bool = False

    def set_schedule(self, model: Model, recipe: Recipe, examples: int) -> None:
        """Let the learning rate change over so many examples in each of the recipe's epochs."""
        if self.schedule is not None:
            steps = recipe.epochs * math.ceil(examples / recipe.batch_size)
            model.optimizer.learning_rate = self.schedule(recipe.learning_rate, steps)

    def augment(self, seed: int) -> Augment | None:
        """The augmentation; None for none."""
        return self.augmentation and self.augmentation(seed)

    def served(self, trained: Model, recipe: Recipe) -> Model:
        """The trained network as it is stored and served."""
        if self.make_served is None:
            return trained
        model = self.make_served(recipe)
        model.set_weights(trained.get_weights())
        return model


def architecture_of(recipe: Recipe) -> Architecture:
    """The declaration of the network that the recipe names."""
    if ":" in recipe.architecture:
        return Architecture(make_custom_network)
    name = cast(Network, recipe.architecture)
    match name:
        case "mlp":
            return Architecture(mlp)
        case "cnn":
            return Architecture(cnn)
        case "convnet":
            return _convolutional(convnet)
        case "convnet-deep":
            return _convolutional(convnet_deep)
        case _:
            assert_never(name)


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


def convnet(parts: "Parts") -> Model:
    """Six convolutions, two of them with a stride of 2: 312,042 weights, 15 million products."""
    inputs, x = parts.inputs()
    x = parts.convolve(x, 32, 5)
    x = parts.convolve(x, 48, 4, strides=2, padding="same")
    x = parts.convolve(x, 64, 3, padding="same")
    x = parts.convolve(x, 64, 3)
    x = parts.convolve(x, 96, 4, strides=2, padding="same")
    x = parts.convolve(x, 128, 3)
    return Model(inputs, parts.answer(x, dropout=0.2), name="convnet")


def convnet_deep(parts: "Parts") -> Model:
    """Eight convolutions, four of them in two residual pairs: 704,170 weights."""
    inputs, x = parts.inputs()
    x = parts.convolve(x, 32, 5)
    x = parts.convolve(x, 64, 4, strides=2, padding="same")
    x = parts.residual_pair(x, 64)
    x = parts.convolve(x, 128, 4, strides=2, padding="same")
    x = parts.residual_pair(x, 128)
    x = parts.convolve(x, 128, 3)
    return Model(inputs, parts.answer(x, dropout=0.3), name="convnet-deep")


class Parts:
    """The parts of a convolutional network, each with a seed of its own.

    Args:
        seed: Of the first weights and the dropout.
        precision: The policy of all layers but the last, such as ``float32``.
        normalization: The layer after each convolution.
    """

    def __init__(
        self, seed: int, precision: str, normalization: type[layers.BatchNormalization]
    ) -> None:
        self._seeds = layer_seeds(seed)
        self._precision = precision
        self._normalization = normalization

    def inputs(self) -> tuple[KerasTensor, KerasTensor]:
        """The input of shape (n, 784), and the same as images."""
        inputs = Input((784,))
        return inputs, layers.Reshape((28, 28, 1))(inputs)

    def convolve(self, x: KerasTensor, filters: int, kernel: int, **options: Any) -> KerasTensor:
        """Convolve, normalise, and set negative values to 0."""
        return layers.ReLU(dtype=self._precision)(self._linear(x, filters, kernel, **options))

    def residual_pair(self, x: KerasTensor, filters: int) -> KerasTensor:
        """Add the result of two convolutions, which begins as 0."""
        inner = self.convolve(x, filters, 3, padding="same")
        change = self._linear(inner, filters, 3, gamma="zeros", padding="same")
        return layers.ReLU(dtype=self._precision)(layers.Add(dtype=self._precision)([x, change]))

    def answer(self, x: KerasTensor, dropout: float) -> KerasTensor:
        """The probabilities, of shape (n, 10)."""
        x = layers.Flatten(dtype=self._precision)(x)
        x = layers.Dropout(dropout, seed=next(self._seeds), dtype=self._precision)(x)
        kernel = GlorotUniform(next(self._seeds))
        return layers.Dense(10, activation="softmax", kernel_initializer=kernel)(x)

    def _linear(
        self, x: KerasTensor, filters: int, kernel: int, gamma: str = "ones", **options: Any
    ) -> KerasTensor:
        x = layers.Conv2D(
            filters,
            kernel,
            use_bias=False,  # the normalisation has one
            kernel_initializer=HeNormal(next(self._seeds)),
            dtype=self._precision,
            **options,
        )(x)
        return self._normalization(momentum=0.95, gamma_initializer=gamma, dtype=self._precision)(x)


def _convolutional(network: Callable[[Parts], Model]) -> Architecture:
    """AdamW and one cycle of its rate, augmentation, bfloat16 where the processor has it."""

    def make(recipe: Recipe, precision: str, layer: type[layers.BatchNormalization]) -> Model:
        model = network(Parts(recipe.seed, precision, layer))
        optimizer = optimizers.AdamW(
            recipe.learning_rate, weight_decay=0.02, beta_2=0.99, epsilon=1e-6
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
        return model

    return Architecture(
        make=lambda recipe: make(recipe, training_precision(), FusedBatchNormalization),
        make_served=partial(make, precision="float32", layer=layers.BatchNormalization),
        schedule=one_cycle,
        augmentation=partial(make_augmentation, no_digits=True),
        holds_out=True,
    )


def one_cycle(peak: float, steps: int) -> CosineDecay:
    """A learning rate that rises for 15 % of the steps, and falls to 0 along half a cosine."""
    rise = max(1, round(0.15 * steps))
    return CosineDecay(
        0.02 * peak, decay_steps=max(1, steps - rise), warmup_target=peak, warmup_steps=rise
    )


def layer_seeds(seed: int) -> Iterator[int]:
    """A seed for each layer.

    Left to itself, Keras draws them from Python's global generator, and so do Prefect's threads.
    """
    generator = random.Random(seed)
    while True:
        yield generator.randint(1, 10**9)
