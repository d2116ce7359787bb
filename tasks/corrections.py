"""Corrections: what people said is wrong becomes part of what is trained on, and of the gate."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.tables.corrections import Corrections
from storage.tables.schema import Correction
from tasks.data.dataset import Dataset, digest
from tasks.record import RunInProgress

# One in so many is never trained on: those are the field set.
FIELD_SHARE = 5
# A few corrections among 60,000 images would not be heard: each is shown so often an epoch.
MAX_REPEATS = 10

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Taken:
    """What became of the corrections.

    Args:
        dataset: With those that are learnt from among its training images, and the field set.
        used: Different corrections that are learnt from.
        dropped: Those that are not to be used: they stand in the test set, or in the training
            set with another label.
        digest: SHA-256 of all that are learnt from or in the field set, hexadecimal.
    """

    dataset: Dataset
    used: int
    dropped: int
    digest: str


@task(cache_policy=NO_CACHE)
def add_corrections(run: RunInProgress, dataset: Dataset) -> Dataset:
    """Add the corrections of the run's dataset, if its recipe says so.

    Args:
        run: Its row gets how many were used.
        dataset: Validated.

    Raises:
        DatabaseError: If they cannot be read.
    """
    recipe = run.recipe
    if not recipe.corrections:
        return dataset
    rows = Corrections(run.engine, recipe.name).all()
    taken = take(rows, dataset, recipe.corrections_share, recipe.seed)
    field = len(taken.dataset.field_labels)
    run.lineage["corrections_digest"] = taken.digest
    run.note(
        corrections_used=taken.used,
        corrections_dropped=taken.dropped,
        corrections_digest=taken.digest,
        field_total=field,
    )
    log.info(
        "corrections: %s to learn from, %s in the field set, %s dropped",
        *(f"{count:,}" for count in (taken.used, field, taken.dropped)),
    )
    return taken.dataset


def take(rows: Sequence[Correction], dataset: Dataset, share: float, seed: int) -> Taken:
    """Choose the corrections to learn from, and the field set.

    Args:
        rows: Those that were not revoked.
        dataset: What is trained on without them.
        share: Of the training images, below 1, that may come from corrections at most.
        seed: Decides which are left out where there are more.

    Returns:
        Each is repeated up to MAX_REPEATS times, as far as the share allows.
    """
    sound = _sound(rows, dataset)
    field = [row for row in sound if int(row.digest, 16) % FIELD_SHARE == 0]
    learnt = [row for row in sound if int(row.digest, 16) % FIELD_SHARE]
    room = int(len(dataset.train_images) * share / (1 - share))
    order = np.random.default_rng(seed).permutation(len(learnt))[:room]
    learnt = [learnt[i] for i in sorted(order)]
    repeats = min(MAX_REPEATS, room // len(learnt)) if learnt else 0
    images, labels = _arrays(learnt)
    field_images, field_labels = _arrays(field)
    return Taken(
        dataset=replace(
            dataset,
            train_images=np.concatenate([dataset.train_images, *[images] * repeats]),
            train_labels=np.concatenate([dataset.train_labels, *[labels] * repeats]),
            field_images=field_images,
            field_labels=field_labels,
        ),
        used=len(learnt),
        dropped=len(rows) - len(sound),
        digest=digest(images, labels, field_images, field_labels),
    )


def _sound(rows: Sequence[Correction], dataset: Dataset) -> list[Correction]:
    """Those that neither stand in the test set nor contradict the training set."""
    if not rows:
        return []
    wanted = {row.digest for row in rows}
    labels = {
        sha: int(label)
        for image, label in zip(dataset.train_images, dataset.train_labels, strict=True)
        if (sha := _sha(image)) in wanted
    }
    in_test = wanted & {_sha(image) for image in dataset.test_images}
    return [
        row
        for row in rows
        if row.digest not in in_test and labels.get(row.digest, row.label) == row.label
    ]


def _arrays(rows: Sequence[Correction]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = np.frombuffer(b"".join(row.image for row in rows), np.uint8)
    return images.reshape(-1, 28, 28), np.array([row.label for row in rows], dtype=np.uint8)


def _sha(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()
