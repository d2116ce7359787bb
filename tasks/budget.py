"""Budget: turn the minutes that a training may take into a number of epochs."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.recipe import Recipe, parameters
from tasks.preprocess import Examples
from tasks.training.keras_import import wait_for_keras

# Five rounds of ten steps, of few images even in large batches.
TIMED_STEPS, MOST_TIMED, TIMED_ROUNDS = 10, 2000, 5
# What an epoch takes besides its steps: validation, a checkpoint.
OTHER_SHARE = 0.05

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Budget:
    """A recipe with the number of epochs that its time allows."""

    recipe: Recipe

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        return {"epochs": self.recipe.epochs}


@task(cache_policy=NO_CACHE)
def budget(recipe: Recipe, examples: Examples, held_out: NDArray[np.bool_] | None = None) -> Budget:
    """Time some steps, and fill in the epochs. A recipe without max_minutes stays as it is.

    The row keeps the number, so that the run can be repeated.

    Args:
        recipe: What is to be trained.
        examples: All training examples.
        held_out: bool, shape (n,): examples that are not trained on; None for none.
    """
    if not recipe.max_minutes:
        return Budget(recipe)
    total = len(examples) if held_out is None else int((~held_out).sum())
    few = examples[: min(TIMED_STEPS * recipe.batch_size, MOST_TIMED)]
    first_s, *rounds_s = _seconds(recipe, few)
    epoch_s = median(rounds_s) * total / len(few) * (1 + OTHER_SHARE)
    left_s = recipe.max_minutes * 60 - (first_s - median(rounds_s))
    _, most = next(p.bounds for p in parameters() if p.name == "epochs" and p.bounds)
    epochs = int(min(most, max(1, left_s / epoch_s)))
    log.info("%d epochs, as one takes %.2g s", epochs, epoch_s)
    return Budget(replace(recipe, epochs=epochs))


def _seconds(recipe: Recipe, examples: Examples) -> list[float]:
    """How long some passes over the examples take; the first includes compilation."""
    wait_for_keras()
    from tasks.training.fit import fit
    from tasks.training.networks import architecture_of

    architecture = architecture_of(recipe)
    ends = [time.perf_counter()]
    fit(
        architecture.make(recipe), examples, epochs=1 + TIMED_ROUNDS, batch_size=recipe.batch_size,
        seed=recipe.seed, augment=architecture.augment(0),
        on_epoch_end=lambda *_: ends.append(time.perf_counter()),
    )  # fmt: skip
    return [after - before for before, after in pairwise(ends)]
