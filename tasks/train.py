"""Train: fit a compiled Keras model, a hundred batches per call of TensorFlow.

Keras' own ``fit`` goes back to Python after every batch, 4,690 times in ten epochs of
MNIST. Here the loop over the batches is inside the graph, which takes about half the time
of ``fit``; ``python -m benchmarks.training`` measures it. The arithmetic is the model's
own: its loss, its optimizer, a new order of the images each epoch, the last short batch too.
In the same order it ends at the same weights as ``fit``, bit by bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.errors import TrainingDivergedError
from storage.records import Recipe
from tasks.preprocess import Examples
from tasks.progress import progress_of

if TYPE_CHECKING:
    import keras

# Between calls Python hears Ctrl-C; a whole epoch of a slow network would put it off too long.
BATCHES_PER_CALL = 100


@dataclass(frozen=True)
class Epoch:
    """One pass over the training examples, measured while the weights were changing.

    Args:
        loss: Mean loss per example.
        accuracy: Share of the examples that was right, in [0, 1].
        duration_s: Seconds that it took.
    """

    loss: float
    accuracy: float
    duration_s: float


@task(cache_policy=NO_CACHE)
def train(model: keras.Model, examples: Examples, recipe: Recipe) -> list[Epoch]:
    """Fit the model in place.

    Args:
        model: Compiled.
        examples: What it learns from.
        recipe: Its epochs, batch size and seed decide; the seed gives the order.

    Returns:
        The learning curve.

    Raises:
        TrainingDivergedError: If a loss or a weight is not finite after an epoch.
    """
    total = len(examples.inputs)
    run_batches = _compile_batches(model, examples, recipe.batch_size)
    show = progress_of(recipe.epochs)
    shuffler = np.random.default_rng(recipe.seed)
    curve = []
    for number in range(1, recipe.epochs + 1):
        started = time.perf_counter()
        order = shuffler.permutation(total)
        loss_sum, right, finite = 0.0, 0, True
        for start in range(0, total, BATCHES_PER_CALL * recipe.batch_size):
            part = order[start : start + BATCHES_PER_CALL * recipe.batch_size]
            part_loss, part_right, part_finite = run_batches(part)
            loss_sum += float(part_loss)
            right += int(part_right)
            finite = finite and bool(part_finite)
        epoch = Epoch(
            loss=loss_sum / total,
            accuracy=right / total,
            duration_s=time.perf_counter() - started,
        )
        if not (math.isfinite(epoch.loss) and finite):
            raise TrainingDivergedError(
                f"expected finite loss and weights after epoch {number}, received loss"
                f" {epoch.loss:g}{'' if finite else ' and weights that are not finite'};"
                f" look for NaN in the data, or lower the learning rate ({recipe.learning_rate:g})"
            )
        show(number, epoch.loss, epoch.accuracy, epoch.duration_s)
        curve.append(epoch)
    return curve


def _compile_batches(
    model: keras.Model, examples: Examples, batch_size: int
) -> Callable[[Any], tuple[Any, Any, Any]]:
    """Some batches as a graph: from an order of examples to loss sum, count right, finite."""
    import tensorflow as tf

    inputs, targets = tf.constant(examples.inputs), tf.constant(examples.targets)
    model.optimizer.build(model.trainable_variables)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])  # type: ignore[untyped-decorator]
    def run_batches(order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        loss_sum, correct = tf.constant(0.0, tf.float64), tf.constant(0, tf.int64)
        for start in tf.range(0, tf.size(order), batch_size):
            batch = order[start : start + batch_size]
            x, y = tf.gather(inputs, batch), tf.gather(targets, batch)
            with tf.GradientTape() as tape:
                predicted = model(x, training=True)
                loss = model.compute_loss(x, y, predicted)
            variables = model.trainable_weights
            model.optimizer.apply(tape.gradient(loss, variables), variables)
            loss_sum += tf.cast(loss, tf.float64) * tf.cast(tf.size(batch), tf.float64)
            right = tf.equal(tf.argmax(predicted, axis=1), tf.argmax(y, axis=1))
            correct += tf.math.count_nonzero(right)
        finite = [tf.reduce_all(tf.math.is_finite(weight)) for weight in model.weights]
        return loss_sum, correct, tf.reduce_all(finite)

    compiled: Callable[[Any], tuple[Any, Any, Any]] = run_batches
    return compiled
