"""Train: fit a compiled Keras model epoch by epoch, and stop if it is no longer finite."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.errors import TrainingDivergedError
from storage.recipe import Recipe
from tasks.preprocess import Examples
from tasks.training import checkpoint as checkpoints
from tasks.training.checkpoint import Checkpoint
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
        compute_dtype: What its convolutions were computed in while it was trained.
    """

    model: keras.Model
    curve: LearningCurve
    compute_dtype: str

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``: the last epoch, and the seconds of all."""
        last = self.curve.epochs[-1]
        return {
            "train_loss": last.loss,
            "train_accuracy": last.accuracy,
            "fit_s": sum(epoch.duration_s for epoch in self.curve.epochs),
            "compute_dtype": self.compute_dtype,
        }


@task(cache_policy=NO_CACHE)
def train(
    model: keras.Model,
    examples: Examples,
    recipe: Recipe,
    held_out: NDArray[np.bool_] | None = None,
    checkpoint: Checkpoint | None = None,
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
        checkpoint: Where an interrupted training goes on from, and this one is kept; None for
            nowhere.

    Raises:
        TrainingDivergedError: If a loss or a weight is not finite after an epoch.
    """
    from tasks.training.fit import fit
    from tasks.training.networks import architecture_of
    from tasks.training.precision import precision_of

    architecture = architecture_of(recipe)
    training = examples if held_out is None else examples[~held_out]
    validation = None if held_out is None else examples[held_out]
    architecture.set_schedule(model, recipe, len(training))
    watch = _Watch(model, recipe, validation, checkpoint)
    fit(
        model, training, epochs=recipe.epochs, batch_size=recipe.batch_size, seed=recipe.seed,
        on_epoch_end=watch.after_epoch, on_progress=watch.within_epoch,
        augment=architecture.augment(recipe.seed),
        epochs_done=len(watch.epochs),
    )  # fmt: skip
    curve = LearningCurve(tuple(watch.epochs))
    return Trained(architecture.served(model, recipe), curve, precision_of(model))


class _Watch:
    """What is done within and after each epoch: checks, validation, progress, checkpoints."""

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        validation: Examples | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._model, self._recipe = model, recipe
        self._validation, self._checkpoint = validation, checkpoint
        done = checkpoint.restore(model) if checkpoint else []
        self.epochs = [Epoch(**epoch) for epoch in done]
        self._progress = Progress(recipe.epochs)
        self._started = self._saved = time.perf_counter()

    def within_epoch(self, share: float) -> None:
        self._progress.within_epoch(len(self.epochs) + 1, share)

    def after_epoch(self, loss: float, accuracy: float) -> None:
        number = len(self.epochs) + 1
        self._check(number, loss)
        validated = _validated(self._model, self._validation)
        duration_s = time.perf_counter() - self._started
        self.epochs.append(Epoch(loss, accuracy, duration_s, *validated))
        self._progress.after_epoch(number, loss, accuracy, duration_s, validated[1])
        if self._checkpoint and time.perf_counter() - self._saved >= checkpoints.EVERY_S:
            self._checkpoint.save(self._model, [asdict(epoch) for epoch in self.epochs])
            self._saved = time.perf_counter()
        self._started = time.perf_counter()

    def _check(self, number: int, loss: float) -> None:
        finite = all(np.isfinite(weight).all() for weight in self._model.get_weights())
        if not (math.isfinite(loss) and finite):
            if self._checkpoint:
                self._checkpoint.remove()  # going on from it would end here again
            raise TrainingDivergedError(
                f"expected finite loss and weights after epoch {number}, received loss"
                f" {loss:g}{'' if finite else ' and weights that are not finite'}; look for NaN in"
                f" the data, or lower the learning rate ({self._recipe.learning_rate:g})"
            )


def _validated(
    model: keras.Model, validation: Examples | None
) -> tuple[float | None, float | None]:
    """Loss and accuracy on the validation examples; None without any."""
    if validation is None:
        return None, None
    evaluation = clean(model, validation)
    return evaluation.finite_loss, evaluation.correct / evaluation.total
