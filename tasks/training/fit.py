"""Fit: a compiled Keras model, with the loop over its batches inside a TensorFlow graph.

Keras' own ``fit`` comes back to Python after every batch, 4,690 times in ten epochs of MNIST, and
in the graph its optimizer passes over the weights eight times. Here

- the loop over the batches is in the graph, and comes back once per hundred of them;
- a batch is gathered from the pixels as they are in the file, one byte each, and only then scaled;
- XLA compiles the optimizer, where it is Keras' own, into two passes over the weights. The network
  itself is left to TensorFlow, whose matrix products are faster than XLA's on a CPU.

The arithmetic is the model's own: its layers, loss and optimizer, a new order each epoch, the last
short batch too. A model for which this loop cannot stand goes to ``fit``, in the same order.
The figures, and what was tried and did not help: docs/performance.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.preprocess import Examples

if TYPE_CHECKING:
    import keras

# Between calls Python hears Ctrl-C; a whole epoch of a slow network would put it off too long.
BATCHES_PER_CALL = 100

OnEpochEnd = Callable[[float, float], None]


def fit(
    model: keras.Model,
    examples: Examples,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    on_epoch_end: OnEpochEnd,
) -> None:
    """Fit a model in place.

    Args:
        model: Compiled, for inputs of shape (n, 784) and one-hot targets of shape (n, 10).
        examples: What it learns from.
        epochs: Passes over the examples.
        batch_size: Examples per step of the optimizer; the last step of an epoch takes the rest.
        seed: Gives the order of the examples, anew each epoch.
        on_epoch_end: Called with the mean loss per example and the share of the examples that
            was right, in [0, 1], both measured while the weights changed (in ``fit``, of a model
            without that metric, the share after the epoch). What it raises ends the training.

    Raises:
        ValueError: If the model's own training step does not say its loss.
    """
    fit_it = _in_a_graph if suits_a_graph(model) else _by_keras
    shuffler = np.random.default_rng(seed)
    fit_it(model, examples, epochs, batch_size, shuffler, on_epoch_end)


def suits_a_graph(model: keras.Model) -> bool:
    """Whether our loop does with this model what its own ``fit`` would do."""
    import keras

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


def suits_xla(optimizer: keras.Optimizer, variables: list[keras.Variable]) -> bool:
    """Whether all that an update calls is Keras' own: what a user wrote XLA may not compile."""
    wraps_others = hasattr(optimizer, "inner_optimizer") or hasattr(optimizer, "optimizers")
    rate = getattr(optimizer, "_learning_rate", None)
    parts = [optimizer, rate, *(variable.constraint for variable in variables)]
    return not wraps_others and all(
        type(part).__module__.startswith("keras.") for part in parts if part is not None
    )


def _in_a_graph(
    model: keras.Model,
    examples: Examples,
    epochs: int,
    batch_size: int,
    shuffler: np.random.Generator,
    on_epoch_end: OnEpochEnd,
) -> None:
    import tensorflow as tf

    pixels, labels = tf.constant(examples.pixels), tf.constant(examples.labels)
    variables, optimizer = model.trainable_weights, model.optimizer
    if not optimizer.built:
        optimizer.build(variables)

    @tf.function(jit_compile=suits_xla(optimizer, variables), autograph=False)  # type: ignore[untyped-decorator]
    def update(*gradients: tf.Tensor) -> None:
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)], autograph=False)  # type: ignore[untyped-decorator]
    def run_batches(order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def run_batch(start: tf.Tensor, loss_sum: tf.Tensor, right: tf.Tensor) -> tuple[Any, ...]:
            batch = order[start : start + batch_size]
            digits = tf.cast(tf.gather(labels, batch), tf.int64)
            x, y = tf.cast(tf.gather(pixels, batch), tf.float32) / 255, tf.one_hot(digits, 10)
            with tf.GradientTape() as tape:
                predicted = model(x, training=True)
                loss = model.compute_loss(x, y, predicted)
                scaled = optimizer.scale_loss(loss)
            update(*tape.gradient(scaled, variables))
            mean = tf.reduce_mean(loss)  # where the loss is not reduced already
            loss_sum += tf.cast(mean, tf.float64) * tf.cast(tf.size(batch), tf.float64)
            (answers,) = tf.nest.flatten(predicted)  # which may have a name
            right += tf.math.count_nonzero(tf.argmax(answers, axis=1) == digits)
            return start + batch_size, loss_sum, right

        begin = (0, tf.constant(0.0, tf.float64), tf.constant(0, tf.int64))
        _, loss_sum, right = tf.while_loop(
            lambda start, *_: start < tf.size(order), run_batch, begin
        )
        return loss_sum, right

    total, per_call = len(examples), BATCHES_PER_CALL * batch_size
    for _ in range(epochs):
        order = shuffler.permutation(total)
        parts = [
            run_batches(order[start : start + per_call]) for start in range(0, total, per_call)
        ]
        loss_sum, right = (sum(map(float, column)) for column in zip(*parts, strict=True))
        on_epoch_end(loss_sum / total, right / total)
    # Where the optimizer averages the weights, they are their averages from here on.
    optimizer.finalize_variable_values(variables)


def _by_keras(
    model: keras.Model,
    examples: Examples,
    epochs: int,
    batch_size: int,
    shuffler: np.random.Generator,
    on_epoch_end: OnEpochEnd,
) -> None:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        """The examples batch by batch, in a new order each epoch."""

        def __init__(self) -> None:
            super().__init__()
            # Keras looks at some batches before the first epoch begins.
            self.order = np.arange(len(examples))

        def __len__(self) -> int:
            return math.ceil(len(examples) / batch_size)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            batch = examples[self.order[index * batch_size : (index + 1) * batch_size]]
            return batch.inputs, batch.targets

        def on_epoch_begin(self) -> None:
            self.order = shuffler.permutation(len(examples))

    def right(start: int) -> int:
        some = examples[np.arange(start, min(start + 1000, len(examples)))]
        (answers,) = keras.tree.flatten(model.predict_on_batch(some.inputs))  # it may have a name
        return int((np.argmax(answers, axis=1) == some.labels).sum())

    def tell(_: int, logs: dict[str, float]) -> None:
        if "loss" not in logs:
            received = ", ".join(logs) or "nothing"
            raise ValueError(
                f"train_step: expected loss among what it returns, received {received}"
            )
        accuracy = logs.get("accuracy")
        if accuracy is None:  # not compiled as a metric
            accuracy = sum(map(right, range(0, len(examples), 1000))) / len(examples)
        on_epoch_end(float(logs["loss"]), float(accuracy))

    watch = keras.callbacks.LambdaCallback(on_epoch_end=tell)
    model.fit(Batches(), epochs=epochs, shuffle=False, verbose=0, callbacks=[watch])
