"""Corrections: people's corrections become training data and a field set for the gate."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.recipe import Recipe
from storage.tables.schema import Correction
from tasks.data.dataset import Dataset, digest

# A few corrections among 60,000 images would have no effect: an epoch shows each this often.
MAX_REPEATS = 10

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Corrected:
    """A dataset with the corrections in it.

    Args:
        dataset: The corrections used are among its training images; it has the field set.
        used: The corrections in the training images.
        dropped: Corrections left out because they are in the test set, or in the training set
            with another label.
        digest: SHA-256 of all that are used or in the field set, hexadecimal; None where the
            recipe does not ask for corrections.
    """

    dataset: Dataset
    used: Sequence[Correction] = ()
    dropped: int = 0
    digest: str | None = None

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``; none where the recipe does not ask for corrections."""
        if self.digest is None:
            return {}
        return {
            "corrections_used": len(self.used),
            "corrections_dropped": self.dropped,
            "corrections_digest": self.digest,
            "field_total": len(self.dataset.field_labels),
            "not_digits": len(self.dataset.not_digits),
        }


@task(cache_policy=NO_CACHE)
def add_corrections(
    dataset: Dataset, rows: Sequence[Correction] | None, recipe: Recipe
) -> Corrected:
    """Add the corrections to the training images, and hold some of them back as the field set.

    Args:
        dataset: Validated.
        rows: The corrections that were not revoked; None where the recipe asks for none.
        recipe: ``corrections_share`` is the largest share of an epoch's images that may be
            corrections; where there are more, the seed decides which are left out.

    Returns:
        Each is repeated up to MAX_REPEATS times, as far as the share allows, but not those that
        the champion contradicts; one person's corrections take at most half of the share.
    """
    if rows is None:
        return Corrected(dataset)
    sound = _sound(rows, dataset)
    field = [row for row in sound if row.in_field_set]
    share = recipe.corrections_share
    room = int(len(dataset.train_images) * share / (1 - share))
    trainable = [row for row in sound if row.label is not None and not row.in_field_set]
    used = _within(room, trainable, recipe.seed)
    repeats = _repeats(room, used)
    once, often = _arrays(used), _arrays([row for row in used if not row.contradicted])
    field_images, field_labels = _arrays(field)
    dropped = len(rows) - len(sound)
    log.info(
        "corrections: %d used, %d in the field set, %d dropped", len(used), len(field), dropped
    )
    return Corrected(
        dataset=replace(
            dataset,
            train_images=np.concatenate(
                [dataset.train_images, once[0], *[often[0]] * (repeats - 1)]
            ),
            train_labels=np.concatenate(
                [dataset.train_labels, once[1], *[often[1]] * (repeats - 1)]
            ),
            field_images=field_images,
            field_labels=field_labels,
            field_actors=np.array([row.actor for row in field], dtype=np.str_),
            not_digits=images_of([row for row in sound if row.label is None]),
            corrections=len(once[0]) + len(often[0]) * max(0, repeats - 1),
        ),
        used=used,
        dropped=dropped,
        digest=digest(*once, field_images, field_labels),
    )


def _within(room: int, rows: Sequence[Correction], seed: int) -> list[Correction]:
    """At most ``room`` of them, and of one person half as many; the seed decides which."""
    chosen: list[int] = []
    of_actor: Counter[str] = Counter()
    for i in np.random.default_rng(seed).permutation(len(rows)):
        actor = rows[i].actor
        if len(chosen) < room and of_actor[actor] < room // 2:
            chosen.append(i)
            of_actor[actor] += 1
    return [rows[i] for i in sorted(chosen)]


def _repeats(room: int, rows: Sequence[Correction]) -> int:
    """How often an epoch shows each of them."""
    if not rows:
        return 0
    most_of_an_actor = max(Counter(row.actor for row in rows).values())
    return min(MAX_REPEATS, room // len(rows), room // 2 // most_of_an_actor)


def _sound(rows: Sequence[Correction], dataset: Dataset) -> list[Correction]:
    """Those that are not in the test set and do not contradict the training set."""
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
    return images_of(rows), np.array([row.label for row in rows], dtype=np.uint8)


def images_of(rows: Sequence[Correction]) -> NDArray[np.uint8]:
    """The images of corrections: uint8, shape (n, 28, 28)."""
    images = np.frombuffer(b"".join(row.image for row in rows), np.uint8)
    return images.reshape(-1, 28, 28)


def _sha(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()
