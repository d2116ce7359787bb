"""Train: fit a compiled Keras model epoch by epoch, and stop if it is no longer finite."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.errors import TrainingDivergedError
from storage.recipe import Recipe
from tasks.preprocess import Examples
from tasks.training.progress import Progress
from tasks.training.validation import clean

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Epoch:
    """One pass over the training examples; its fields are columns of ``epochs``.

    Args:
        loss: Mean loss per example, measured while the weights were changing.
        accuracy: Share of the examples that were correct, in [0, 1], measured likewise.
        duration_s: Seconds it took.
        validation_loss: Mean loss per validation example after the epoch; None without any.
        validation_accuracy: Share of them that were correct after the epoch, in [0, 1].
    """

    loss: float
    accuracy: float
    duration_s: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class LearningCurve:
    """All epochs of a training, at least one, first epoch first."""

    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class Trained:
    """A trained network, as it is stored and served.

    Args:
        model: In float32, with layers of Keras' own.
        curve: Its epochs.
        precision: What its convolutions were computed in while it was trained.
    """

    model: keras.Model
    curve: LearningCurve
    precision: str

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``: the last epoch, and the seconds of all."""
        last = self.curve.epochs[-1]
        return {
            "train_loss": last.loss,
            "train_accuracy": last.accuracy,
            "fit_s": sum(epoch.duration_s for epoch in self.curve.epochs),
            "precision": self.precision,
        }


@task(cache_policy=NO_CACHE)
def train(
    model: keras.Model,
    examples: Examples,
    recipe: Recipe,
    held_out: NDArray[np.bool_] | None = None,
) -> Trained:
    """Fit the model in place, as its architecture declares, and make the one that is served.

    The recipe's seed determines the order of the examples, a new one each epoch, and their
    augmentation.

    Args:
        model: As ``build`` made it.
        examples: All training examples.
        recipe: How it is trained.
        held_out: bool, shape (n,): examples that are not trained on, but scored after each epoch;
            None for none.

    Raises:
        TrainingDivergedError: If a loss or a weight is not finite after an epoch.
    """
    from tasks.training.fit import fit
    from tasks.training.networks import architecture_of
    from tasks.training.precision import precision_of

    architecture = architecture_of(recipe)
    training = examples if held_out is None else examples[~held_out]
    validation = None if held_out is None else examples[held_out]
    if architecture.schedule is not None:
        steps = recipe.epochs * math.ceil(len(training) / recipe.batch_size)
        model.optimizer.learning_rate = architecture.schedule(recipe.learning_rate, steps)
    augment = architecture.augmentation and architecture.augmentation(recipe.seed)
    progress = Progress(recipe.epochs)
    curve: list[Epoch] = []
    started = time.perf_counter()

    def on_progress(share: float) -> None:
        progress.within_epoch(len(curve) + 1, share)

    def on_epoch_end(loss: float, accuracy: float) -> None:
        nonlocal started
        number = len(curve) + 1
        finite = all(np.isfinite(weight).all() for weight in model.get_weights())
        if not (math.isfinite(loss) and finite):
            raise TrainingDivergedError(
                f"expected finite loss and weights after epoch {number}, received loss"
                f" {loss:g}{'' if finite else ' and weights that are not finite'};"
                f" look for NaN in the data, or lower the learning rate ({recipe.learning_rate:g})"
            )
        validated = _validated(model, validation)
        duration_s = time.perf_counter() - started
        curve.append(Epoch(loss, accuracy, duration_s, *validated))
        progress.after_epoch(number, loss, accuracy, duration_s, validated[1])
        started = time.perf_counter()

    fit(
        model, training, epochs=recipe.epochs, batch_size=recipe.batch_size, seed=recipe.seed,
        on_epoch_end=on_epoch_end, on_progress=on_progress, augment=augment,
    )  # fmt: skip
    return Trained(
        architecture.served(model, recipe), LearningCurve(tuple(curve)), precision_of(model)
    )


def _validated(
    model: keras.Model, validation: Examples | None
) -> tuple[float | None, float | None]:
    """Loss and accuracy on the validation examples; None without any."""
    if validation is None:
        return None, None
    evaluation = clean(model, validation)
    return evaluation.finite_loss, evaluation.correct / evaluation.total
