"""Fit: train a compiled Keras model, with the loop over its batches inside a TensorFlow graph.

Keras' own ``fit`` returns to Python after every batch, 4,690 times in ten epochs of MNIST, and its
optimizer passes over the weights eight times. Here

- the loop over the batches runs in the graph, and returns once per hundred batches;
- a batch is gathered from the pixels as stored, one byte each, and only then scaled;
- XLA compiles the optimizer, if it is one of Keras' own, into two passes over the weights. The
  network itself is left to TensorFlow, whose matrix products are faster than XLA's on a CPU.

The arithmetic is the model's own: its layers, loss and optimizer, a new order each epoch, and a
shorter last batch. A model this loop does not support is trained by Keras' ``fit`` in the same
order. What was measured, and what was tried and not kept: docs/decisions.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.preprocess import Examples
from tasks.training.augment import Augment

# Python handles Ctrl-C between calls; a whole epoch of a slow network would delay it too long.
BATCHES_PER_CALL = 100
# How many examples the fallback predicts at once to count those that are correct.
PREDICTED_AT_ONCE = 1000

OnEpochEnd = Callable[[float, float], None]
OnProgress = Callable[[float], None]
BatchLoop = Callable[[NDArray[np.int64]], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def fit(
    model: keras.Model,
    examples: Examples,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    on_epoch_end: OnEpochEnd,
    on_progress: OnProgress = lambda _: None,
    augment: Augment | None = None,
    epochs_done: int = 0,
) -> None:
    """Fit a model in place.

    Args:
        model: Compiled, for inputs of shape (n, 784) and one-hot targets of shape (n, 10).
        examples: The training examples.
        epochs: Passes over the examples.
        batch_size: Examples per step of the optimizer; the last step of an epoch takes the rest.
        seed: Determines the order of the examples, a new one each epoch.
        augment: Changes each batch before it is trained on; see ``tasks.training.augment``.
        epochs_done: Epochs that an interrupted training has behind it. Model and optimizer are
            as they were after the last of them.
        on_epoch_end: Called with the mean loss per example and the share of examples that were
            correct, in [0, 1], both measured while the weights were changing; the share leaves out
            what ``augment`` made no digit. (Keras' ``fit``, without an accuracy metric: the share
            after the epoch.) An exception ends the training.
        on_progress: Called within an epoch, after at most a hundred batches, with the share of it
            that is done, in (0, 1].

    Raises:
        ValueError: If the model's own training step does not return its loss.
    """
    if epochs_done >= epochs:
        return
    train = _fit_in_graph if supports_graph(model) else _fit_with_keras
    if augment is not None and train is _fit_with_keras:
        raise ValueError("augment: expected a model that the graph loop supports; leave it out")
    course = _Course(epochs, batch_size, seed, augment, epochs_done)
    train(model, examples, course, on_epoch_end, on_progress)


@dataclass(frozen=True)
class _Course:
    """The arguments of ``fit`` that say how often, and in which order, examples are used."""

    epochs: int
    batch_size: int
    seed: int
    augment: Augment | None
    epochs_done: int

    def orders(self, total: int) -> Iterator[NDArray[np.int64]]:
        """A new order of the examples for each epoch that is left."""
        shuffler = np.random.default_rng(self.seed)
        for epoch in range(self.epochs):
            order = shuffler.permutation(total)
            if epoch >= self.epochs_done:
                yield order


def supports_graph(model: keras.Model) -> bool:
    """Whether our loop does the same with this model as its own ``fit``."""
    if keras.backend.backend() != "tensorflow":
        return False
    methods = ("fit", "make_train_function", "train_step", "compute_loss", "compute_metrics")
    return (
        all(
            getattr(getattr(model, name), "__func__", None) is getattr(keras.Model, name)
            for name in methods
        )
        and len(getattr(model, "inputs", None) or ()) == 1
        and getattr(model, "output_shape", None) == (None, 10)
        and not model.run_eagerly
        and model.distribute_strategy.num_replicas_in_sync == 1
        and bool(model.trainable_weights)
    )


def supports_xla(optimizer: keras.Optimizer, variables: list[keras.Variable]) -> bool:
    """Whether an update calls only Keras' own code: XLA may not compile a user's."""
    wraps_another = hasattr(optimizer, "inner_optimizer") or hasattr(optimizer, "optimizers")
    rate = getattr(optimizer, "_learning_rate", None)
    parts = [optimizer, rate, *(variable.constraint for variable in variables)]
    return not wraps_another and all(
        type(part).__module__.startswith("keras.") for part in parts if part is not None
    )


def _fit_in_graph(
    model: keras.Model,
    examples: Examples,
    course: _Course,
    on_epoch_end: OnEpochEnd,
    on_progress: OnProgress,
) -> None:
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_weights)
    run_batches = _batch_loop(model, examples, course.batch_size, course.augment)
    total, per_call = len(examples), BATCHES_PER_CALL * course.batch_size
    for order in course.orders(total):
        parts = []
        for start in range(0, total, per_call):
            parts.append(run_batches(order[start : start + per_call]))
            on_progress(min(1, (start + per_call) / total))
        loss_sum, correct, asked = (sum(map(float, column)) for column in zip(*parts, strict=True))
        on_epoch_end(loss_sum / total, correct / asked)
    # An optimizer that averages the weights now replaces them by their averages.
    model.optimizer.finalize_variable_values(model.trainable_weights)


def _batch_loop(
    model: keras.Model, examples: Examples, batch_size: int, augment: Augment | None
) -> BatchLoop:
    """A graph that trains on rows, and returns summed loss, correct answers and digits asked."""
    pixels, labels = tf.constant(examples.pixels), tf.constant(examples.labels)
    variables, optimizer = model.trainable_weights, model.optimizer

    @tf.function(jit_compile=supports_xla(optimizer, variables), autograph=False)  # type: ignore[untyped-decorator]
    def update(*gradients: tf.Tensor) -> None:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def run_batch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        digits = tf.cast(tf.gather(labels, rows), tf.int64)
        x, y = tf.cast(tf.gather(pixels, rows), tf.float32) / 255, tf.one_hot(digits, 10)
        if augment is not None:
            x, y = augment(x, y, tf.cast(optimizer.iterations, tf.int64))
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = model.compute_loss(x, y, predicted)
            scaled = optimizer.scale_loss(loss)
        update(*tape.gradient(scaled, variables))
        mean = tf.reduce_mean(loss)  # for a loss that is not reduced yet
        (answers,) = tf.nest.flatten(predicted)  # the output may be named
        right, asked = tf.argmax(answers, axis=1) == digits, tf.size(rows, tf.int64)
        if augment is not None:  # it may have made pictures of no digit, whose targets are even
            digit = tf.reduce_max(y, axis=1) > 0.5
            right, asked = right & digit, tf.math.count_nonzero(digit)
        loss_sum = tf.cast(mean, tf.float64) * tf.cast(tf.size(rows), tf.float64)
        return loss_sum, tf.math.count_nonzero(right), asked

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)], autograph=False)  # type: ignore[untyped-decorator]
    def run_batches(order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        def step(start: tf.Tensor, *sums: tf.Tensor) -> tuple[Any, ...]:
            batch = run_batch(order[start : start + batch_size])
            return start + batch_size, *map(tf.add, sums, batch)

        zero = tf.constant(0, tf.int64)
        begin = (0, tf.constant(0.0, tf.float64), zero, zero)
        _, *sums = tf.while_loop(lambda start, *_: start < tf.size(order), step, begin)
        return tuple(sums)

    return run_batches  # type: ignore[no-any-return]


def _fit_with_keras(
    model: keras.Model,
    examples: Examples,
    course: _Course,
    on_epoch_end: OnEpochEnd,
    on_progress: OnProgress,
) -> None:
    steps = math.ceil(len(examples) / course.batch_size)

    def report(_: int, logs: dict[str, float]) -> None:
        if "loss" not in logs:
            received = ", ".join(logs) or "nothing"
            raise ValueError(
                f"train_step: expected loss among the returned logs, received {received}"
            )
        accuracy = logs.get("accuracy")
        if accuracy is None:  # not compiled as a metric
            accuracy = _accuracy(model, examples)
        on_epoch_end(float(logs["loss"]), float(accuracy))

    def batches() -> Iterator[tuple[Any, Any]]:
        for order in course.orders(len(examples)):
            for start in range(0, len(examples), course.batch_size):
                batch = examples[order[start : start + course.batch_size]]
                yield batch.inputs, batch.targets

    model.fit(
        batches(),
        epochs=course.epochs,
        initial_epoch=course.epochs_done,
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_end=report,
                on_train_batch_end=lambda batch, **_: on_progress((batch + 1) / steps),
            )
        ],
    )


def _accuracy(model: keras.Model, examples: Examples) -> float:
    correct = 0
    for start in range(0, len(examples), PREDICTED_AT_ONCE):
        batch = examples[start : start + PREDICTED_AT_ONCE]
        (answers,) = keras.tree.flatten(model.predict_on_batch(batch.inputs))  # may be named
        correct += int((np.argmax(answers, axis=1) == batch.labels).sum())
    return correct / len(examples)
