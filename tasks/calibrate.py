"""Calibrate: make the probabilities as large as the share of answers that are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.preprocess import Examples
from tasks.training.validation import Validation, measured

if TYPE_CHECKING:
    import keras

# How many training images are distorted, and by how much: chosen in docs/decisions.md.
CALIBRATED_ON = 2000
DEGREES, SHIFT, STRETCH = 7.0, 0.7, 0.07
BOUNDS = 0.25, 4.0
# Added to probabilities before the logarithm: less than float32 tells from 0 beside any other.
TINY = 1e-30


@dataclass(frozen=True)
class Calibrated:
    """A model whose probabilities are softmax(log(p) / temperature) of those it was trained for."""

    model: keras.Model
    temperature: float
    validation: Validation | None = None

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        of_validation = self.validation.columns() if self.validation else {}
        return {"temperature": self.temperature, **of_validation}


@task(cache_policy=NO_CACHE)
def calibrate(
    model: keras.Model, training: Examples, held_out: NDArray[np.bool_] | None = None
) -> Calibrated:
    """Find the temperature, and wrap the model with it.

    It is found on the validation part. A network without one has seen every training image, and is
    too sure of them. Turned, shifted and stretched a little, they are as hard as images that it has
    not seen. The weights and the answers stay the same. Guo, Pleiss, Sun and Weinberger, On
    calibration of modern neural networks, ICML 2017.

    Args:
        model: Trained.
        training: All training examples.
        held_out: bool, shape (n,): those that the model was not trained on; None for none.
    """
    if held_out is None:
        chosen = np.linspace(0, len(training) - 1, min(CALIBRATED_ON, len(training)))
        examples = training[chosen.astype(int)]
        inputs = distorted(examples.inputs)
    else:
        examples = training[held_out]
        inputs = examples.inputs
    batches = [inputs[start : start + 500] for start in range(0, len(inputs), 500)]
    probabilities = np.concatenate([_answers(model, batch) for batch in batches])
    temperature = best_temperature(probabilities, examples.labels)
    calibrated = _with_temperature(model, temperature)
    validation = None if held_out is None else measured(calibrated, examples)
    return Calibrated(calibrated, temperature, validation)


def best_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """The temperature with the smallest cross-entropy, within BOUNDS; 1 if one is not finite.

    Args:
        probabilities: float32, shape (n, 10).
        labels: Integers, shape (n,), 0 to 9.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    if not np.isfinite(probabilities).all():
        return 1.0
    logarithms = np.log(probabilities.astype(np.float64) + TINY)

    def loss(exponent: float) -> float:
        scaled = logarithms / np.exp(exponent)
        of_the_true = scaled[np.arange(len(labels)), labels]
        return float((logsumexp(scaled, axis=1) - of_the_true).mean())

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded")
    return float(np.exp(found.x))


def distorted(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn, shift, stretch and slant images at random, always by the same amounts.

    Args:
        inputs: float32, shape (n, 784), in [0, 1].

    Returns:
        Likewise.
    """
    from scipy.ndimage import affine_transform

    random = np.random.default_rng(0)
    made = np.empty_like(inputs)
    for row, image in enumerate(inputs.reshape(-1, 28, 28)):
        angle = np.radians(random.normal(0, DEGREES))
        tall, wide = np.exp(random.normal(0, STRETCH, 2))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[tall, random.normal(0, STRETCH)], [0, wide]])
        offset = 13.5 - matrix @ (13.5 + random.uniform(-SHIFT, SHIFT, 2))
        made[row] = affine_transform(image, matrix, offset=offset, order=1).ravel()
    return made


def _answers(model: keras.Model, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(model(inputs, training=False), np.float32)


def _with_temperature(model: keras.Model, temperature: float) -> keras.Model:
    import keras

    inputs = keras.Input((784,))
    logarithms = keras.ops.log(keras.ops.cast(model(inputs), "float32") + TINY)
    return keras.Model(inputs, keras.ops.softmax(logarithms / temperature))
