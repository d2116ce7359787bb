"""Stage: the trained model as a candidate in the model store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.models.classifier import GOLDEN, MODEL
from storage.models.unsure import UNSURE
from tasks.data.dataset import Dataset, digest
from tasks.training.unsure import fit_rule

if TYPE_CHECKING:
    import keras

    from storage.models.store import ModelStore
    from storage.provenance import Provenance
    from storage.recipe import Recipe
    from storage.records import Evaluation
    from tasks.corrections import Corrected
    from tasks.validate import DataCheck

# Enough to include every digit, in the order of any dataset we know.
GOLDEN_IMAGES = 64


@dataclass(frozen=True)
class Candidate:
    """A staged model.

    Args:
        run_id: The run that made it, which names it in the store.
        digest: SHA-256 of its manifest, hexadecimal.
        weights_digest: SHA-256 of its weights, hexadecimal.
    """

    run_id: str
    digest: str
    weights_digest: str

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        return {"weights_digest": self.weights_digest}


@task(cache_policy=NO_CACHE)
def stage(
    store: ModelStore,
    run_id: str,
    model: keras.Model,
    dataset: Dataset,
    origin: Mapping[str, object],
    held_out: NDArray[np.bool_] | None = None,
) -> Candidate:
    """Write the model for Keras and LiteRT, rule, golden batch and manifest as the candidate.

    The golden batch is training images with the probabilities that Keras gives them, and the
    scores of the rule for images that may not be digits. Anyone who loads the stored
    model can check with it that it still answers the same.

    The manifest says what ``origin_of`` returns. ``held_out`` (bool, shape (n,)) says which
    training images the network was not trained on; None for none.

    Raises:
        ModelStoreError: If the files cannot be written; nothing is left behind.
    """
    weights = weights_digest(model)
    chosen = np.linspace(0, len(dataset.train_images) - 1, GOLDEN_IMAGES).astype(int)
    images = dataset.train_images[chosen]

    def write(folder: Path) -> None:
        model.save(folder / "model.keras")
        raw = _with_raw_pixels(model)
        raw.export(folder / MODEL, format="litert", verbose=False)
        predict = partial(_answers, model)
        rule = fit_rule(dataset.train_images, dataset.train_labels, predict, held_out)
        (folder / UNSURE).write_bytes(rule.content())
        probabilities = np.asarray(raw(images, training=False))
        scores = rule.scores(images, probabilities)
        np.savez(folder / GOLDEN, images=images, probabilities=probabilities, scores=scores)

    manifest = store.stage(run_id, write, {**origin, "weights_digest": weights})
    return Candidate(run_id, manifest, weights)


def origin_of(
    recipe: Recipe,
    provenance: Provenance,
    corrected: Corrected,
    check: DataCheck,
    evaluation: Evaluation,
) -> dict[str, object]:
    """What a manifest says about its model's origin: enough to explain and repeat the run."""
    data = corrected.dataset
    return {
        **provenance.columns(),
        **recipe.columns(),
        "data_digest": data.digest,
        "test_digest": data.test_digest,
        "training_data": check.statistics,
        **({"corrections_digest": corrected.digest} if corrected.digest else {}),
        "test_correct": evaluation.correct,
        "test_total": evaluation.total,
        "test_confusion": evaluation.confusion,
    }


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of dtype, shape and content of all weights, hexadecimal.

    Not of the file: saving the same weights twice gives different bytes.
    """
    return digest(*model.get_weights())


def _answers(model: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    # The batches of the evaluation, for which the model is compiled already.
    inputs = images.reshape(-1, 784) / np.float32(255)
    return np.asarray(model.predict(inputs, batch_size=1000, verbose=0))


def _with_raw_pixels(model: keras.Model) -> keras.Model:
    """The model with its preprocessing inside: uint8 of shape (n, 28, 28), 0 to 255."""
    import keras

    pixels = keras.Input((28, 28), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255)(pixels)
    return keras.Model(pixels, model(keras.layers.Reshape((784,))(scaled)))
