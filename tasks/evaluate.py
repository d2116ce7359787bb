"""Evaluate: the trained model, in memory, on the test images."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.records import Evaluation
from tasks.preprocess import Examples
from tasks.scoring.statistics import loss_and_confusion

if TYPE_CHECKING:
    import keras

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def evaluate(model: keras.Model, examples: Examples) -> Evaluation:
    """Measure loss and confusion on the test examples, for the gate alone."""
    predicted = model.predict(examples.inputs, batch_size=1000, verbose=0)
    evaluation = loss_and_confusion(predicted, examples.labels)
    log.info(
        "test loss %.4f, accuracy %.4f (%s of %s)",
        evaluation.loss,
        evaluation.correct / evaluation.total,
        f"{evaluation.correct:,}",
        f"{evaluation.total:,}",
    )
    return evaluation
