"""Validation: training images that a network is not trained on, but judged on while it is made.

An image belongs to this part by the digest of its pixels alone. So the part is the same for every
run, it stays as it is when the data grows, and an image that occurs twice is in one part only.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.recipe import Recipe
from storage.records import Evaluation
from tasks.preprocess import Examples
from tasks.scoring.statistics import loss_and_confusion
from tasks.training.keras_import import wait_for_keras

if TYPE_CHECKING:
    import keras

# One image in this many.
VALIDATION_SHARE = 12
# Of each digit; figures of fewer images would say little.
LEAST_OF_A_DIGIT = 10
# Disturbed copies of the part, made in batches by one augmentation of this seed.
COPIES, COPIES_SEED = 5, 0
BATCH = 500

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Validation:
    """How a model does on the validation part.

    Args:
        evaluation: On the images as they are.
        disturbed_loss: Mean cross-entropy on five disturbed copies of them, in nats.
    """

    evaluation: Evaluation
    disturbed_loss: float

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        clean = self.evaluation
        return {
            "validation_total": clean.total,
            "validation_accuracy": clean.correct / clean.total,
            "validation_loss": clean.finite_loss,
            "validation_disturbed_loss": (
                self.disturbed_loss if math.isfinite(self.disturbed_loss) else None
            ),
        }


def hold_out(examples: Examples, corrections: int, recipe: Recipe) -> NDArray[np.bool_] | None:
    """Which training examples are for validation, if the recipe's architecture holds them out.

    Args:
        examples: All training examples.
        corrections: How many of them, the last ones, are corrections.
        recipe: Names the architecture.

    Returns:
        bool, shape (n,). None if the network trains on all examples: its architecture says so, or
        the part would have fewer than ten images of a digit.
    """
    wait_for_keras()
    from tasks.training.networks import architecture_of

    if not architecture_of(recipe).holds_out:
        return None
    held_out = in_validation(examples.pixels, corrections)
    counts = np.bincount(examples.labels[held_out], minlength=10)
    if counts.min() < LEAST_OF_A_DIGIT:
        log.info(
            "no validation, all %s images are trained on: expected %d or more of each digit in that"
            " part, found %d of digit %d",
            f"{len(examples):,}", LEAST_OF_A_DIGIT, counts.min(), counts.argmin(),
        )  # fmt: skip
        return None
    return held_out


def in_validation(pixels: NDArray[np.uint8], corrections: int = 0) -> NDArray[np.bool_]:
    """Which images belong to the validation part: the start of their SHA-256 is a small number.

    The first 8 bytes, the most significant first, are less than 2^64 / 12. Corrections are never
    in it, nor are images that occur among the corrections too.

    Args:
        pixels: uint8, shape (n, 784).
        corrections: How many of them, the last ones, are corrections.

    Returns:
        bool, shape (n,).
    """
    starts = b"".join(hashlib.sha256(image).digest()[:8] for image in np.ascontiguousarray(pixels))
    numbers = np.frombuffer(starts, ">u8")
    corrected = numbers[len(numbers) - corrections :]
    return (numbers < 2**64 // VALIDATION_SHARE) & ~np.isin(numbers, corrected)


def clean(model: keras.Model, examples: Examples) -> Evaluation:
    """Score a model on the validation examples as they are."""
    predicted = model.predict(examples.inputs, batch_size=BATCH, verbose=0)
    return loss_and_confusion(predicted, examples.labels)


def measured(model: keras.Model, examples: Examples) -> Validation:
    """Score a model on the validation examples and on disturbed copies of them.

    The copies are the same for every model: turned, moved, noisy, faint, thin and so on, as
    ``tasks.training.augment`` makes them with a fixed seed.
    """
    import tensorflow as tf

    from tasks.training.augment import make_augmentation

    augment = make_augmentation(COPIES_SEED)
    total = COPIES * len(examples)
    # All batches have the same size, for which the augmentation is compiled once.
    rows = np.arange(-(-total // BATCH) * BATCH) % len(examples)
    predicted = []
    for step, chosen in enumerate(rows.reshape(-1, BATCH)):
        batch = examples[chosen]
        inputs, _ = augment(batch.inputs, batch.targets, tf.constant(step, tf.int64))
        predicted.append(model.predict_on_batch(inputs))
    labels = examples.labels[rows[:total]]
    disturbed = loss_and_confusion(np.concatenate(predicted)[:total], labels)
    return Validation(clean(model, examples), disturbed.loss)
