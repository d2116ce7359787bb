"""Stage: the trained model as a candidate in the model store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.models.classifier import GOLDEN, MODEL
from storage.records import Evaluation
from tasks.data.dataset import Dataset, digest
from tasks.record import RunInProgress

if TYPE_CHECKING:
    import keras


# Enough for each digit to be among them, in the order of any dataset that we know.
GOLDEN_IMAGES = 64


@task(cache_policy=NO_CACHE)
def stage(run: RunInProgress, model: keras.Model, dataset: Dataset, evaluation: Evaluation) -> None:
    """Write ``model.keras``, ``model.tflite``, golden batch and manifest as this run's candidate.

    The golden batch is training images with the probabilities that Keras gives them, so that
    whoever loads the stored model can see that it answers as it did.

    Raises:
        ModelStoreError: If they cannot be written; nothing is left behind.
    """
    weights = weights_digest(model)
    run.staged(weights)
    chosen = np.linspace(0, len(dataset.train_images) - 1, GOLDEN_IMAGES).astype(int)
    images = dataset.train_images[chosen]

    def write(folder: Path) -> None:
        model.save(folder / "model.keras")
        raw = _with_raw_pixels(model)
        raw.export(folder / MODEL, format="litert", verbose=False)
        probabilities = np.asarray(raw(images, training=False))
        np.savez(folder / GOLDEN, images=images, probabilities=probabilities)

    metrics = {"test_correct": evaluation.correct, "test_total": evaluation.total}
    run.candidate_digest = run.store.stage(run.id, write, {**run.lineage, **metrics})


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of dtype, shape and content of all weights, hexadecimal.

    Not of the file: saving the same weights twice gives other bytes.
    """
    return digest(*model.get_weights())


def _with_raw_pixels(model: keras.Model) -> keras.Model:
    """The model with its preprocessing inside: uint8 of shape (n, 28, 28), 0 to 255."""
    import keras

    pixels = keras.Input((28, 28), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255)(pixels)
    return keras.Model(pixels, model(keras.layers.Reshape((784,))(scaled)))
