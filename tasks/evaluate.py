"""Evaluate: what the trained model does on the test images."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.records import Evaluation
from tasks.preprocess import Examples

if TYPE_CHECKING:
    import keras

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def evaluate(model: keras.Model, examples: Examples) -> Evaluation:
    """Measure loss and confusion on the test examples.

    Accuracy is kept as two integers: as a float32, which is what Keras gives, 9,500 of
    10,000 is below 0.95.

    Args:
        model: Trained.
        examples: The test set; it decides nothing but the gate.
    """
    import keras
    import tensorflow as tf

    predicted = model.predict(examples.inputs, batch_size=1000, verbose=0)
    losses = keras.losses.categorical_crossentropy(examples.targets, predicted)
    counts = tf.math.confusion_matrix(
        examples.targets.argmax(axis=1), predicted.argmax(axis=1), num_classes=10
    )
    evaluation = Evaluation(
        loss=float(tf.reduce_mean(tf.cast(losses, tf.float64))),
        confusion=tuple(tuple(map(int, row)) for row in counts.numpy()),
    )
    log.info(
        "test loss %.4f, accuracy %.4f (%s of %s)",
        evaluation.loss,
        evaluation.correct / evaluation.total,
        f"{evaluation.correct:,}",
        f"{evaluation.total:,}",
    )
    return evaluation
