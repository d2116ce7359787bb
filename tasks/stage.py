"""Stage: the trained model as a candidate in the model store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.records import Evaluation
from tasks.load import digest
from tasks.record import RunInProgress

if TYPE_CHECKING:
    import keras


@task(cache_policy=NO_CACHE)
def stage(run: RunInProgress, model: keras.Model, evaluation: Evaluation) -> None:
    """Write ``model.keras``, ``model.tflite`` and the manifest as this run's candidate.

    Raises:
        ModelStoreError: If they cannot be written; nothing is left behind.
    """
    weights = weights_digest(model)
    run.note(weights_digest=weights)

    def write(folder: Path) -> None:
        model.save(folder / "model.keras")
        _with_raw_pixels(model).export(folder / "model.tflite", format="litert", verbose=False)

    metrics = {"test_correct": evaluation.correct, "test_total": evaluation.total}
    run.store.stage(run.id, write, {**run.lineage, **metrics, "weights_digest": weights})


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
