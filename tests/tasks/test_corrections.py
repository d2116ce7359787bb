import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from storage.tables.corrections import Corrections
from storage.tables.schema import FIELD_SHARE, Correction
from tasks.corrections import MAX_REPEATS, Corrected, add_corrections
from tasks.data.dataset import Dataset
from tasks.journal import journal


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28)).astype(np.uint8)


@pytest.fixture
def dataset() -> Dataset:
    labels = (np.arange(1000) % 10).astype(np.uint8)
    return Dataset(pictures(1000, 1), labels, pictures(100, 2), labels[:100], digest="d")


def rows(
    images: np.ndarray, labels: np.ndarray | int = 3, actors: Sequence[str] = ("anna", "bob")
) -> list[Correction]:
    return [
        Correction(
            digest=hashlib.sha256(i.tobytes()).hexdigest(),
            image=i.tobytes(),
            label=int(label),
            actor=actor,
        )
        for i, label, actor in zip(
            images, np.broadcast_to(labels, len(images)), itertools.cycle(actors), strict=False
        )
    ]


def contains(images: np.ndarray, image: np.ndarray) -> int:
    return int((images == image).all(axis=(1, 2)).sum())


@pytest.fixture
def added(new_recipe) -> Callable[..., Corrected]:
    """Add corrections, with this share and seed in the recipe."""

    def add(given, dataset: Dataset, share: float, seed: int) -> Corrected:
        recipe = new_recipe(corrections=True, corrections_share=share, seed=seed)
        return add_corrections.fn(dataset, given, recipe)

    return add


def test_one_in_five_is_held_back_and_none_is_repeated_more_than_ten_times():
    # Promised: another share would train on images that earlier champions were measured on.
    assert FIELD_SHARE == 5
    assert MAX_REPEATS == 10


def test_a_known_digest_stays_in_the_field_set_and_its_neighbour_in_the_training_set(
    added, dataset
):
    held_back, used = np.zeros((2, 28, 28), np.uint8)
    held_back[14, 14], used[14, 14] = 2, 1
    digest = "3b27d3e6e2d1c5dcb0c322385cfc892bc835011dce0750513dd38958ee64c7f3"
    assert hashlib.sha256(held_back.tobytes()).hexdigest() == digest
    found = added(rows(np.stack([held_back, used])), dataset, share=0.1, seed=0).dataset
    assert (found.field_images == held_back).all()
    assert (found.train_images[1000:] == used).all()
    assert (len(found.field_images), len(found.train_images)) == (1, 1010)


def test_a_fifth_is_the_field_set_and_never_trained_on(added, dataset):
    images = pictures(1000, 3)
    # So that all have room: the flood is another test's.
    corrected = added(rows(images), dataset, share=0.5, seed=0)

    found = corrected.dataset
    assert 150 < len(found.field_images) < 250
    assert len(corrected.used) == 1000 - len(found.field_images)
    for image in found.field_images:
        assert contains(found.train_images, image) == 0
        assert int(hashlib.sha256(image.tobytes()).hexdigest(), 16) % 5 == 0
    assert set(found.field_labels) == {3}
    assert (found.train_images[:1000] == dataset.train_images).all()
    assert (found.test_images == dataset.test_images).all()


def test_the_field_set_stays_the_same_when_more_come(added, dataset):
    images = pictures(300, 3)
    few = added(rows(images[:100]), dataset, share=0.1, seed=0).dataset.field_images
    many = added(rows(images), dataset, share=0.1, seed=9).dataset.field_images
    assert all(contains(many, image) == 1 for image in few)


def test_a_few_are_repeated_and_no_more_than_their_share(added, dataset):
    images = pictures(10, 3)
    corrected = added(rows(images), dataset, share=0.1, seed=0)
    extra = len(corrected.dataset.train_images) - 1000
    assert 0 < extra <= 1000 * 0.1 / 0.9
    assert extra == len(corrected.used) * min(10, 111 // len(corrected.used))
    assert len(corrected.dataset.train_labels) == len(corrected.dataset.train_images)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5])
def test_a_flood_never_takes_more_of_an_epoch_than_its_share(added, dataset, share):
    corrected = added(rows(pictures(3000, 3)), dataset, share=share, seed=0)
    total = len(corrected.dataset.train_images)
    assert (total - 1000) / total <= share
    assert len(corrected.used) == total - 1000


def test_another_seed_leaves_others_of_a_flood_out_and_the_same_seed_the_same(added, dataset):
    flood = rows(pictures(3000, 3))
    first, same, other = (
        added(flood, dataset, share=0.1, seed=seed).dataset.train_images[1000:]
        for seed in (0, 0, 1)
    )
    assert (first == same).all()
    assert not (first == other).all()


def test_a_correction_in_the_test_set_or_contradicting_the_training_set_is_dropped(added, dataset):
    images = np.concatenate([dataset.test_images[:3], dataset.train_images[:4], pictures(5, 3)])
    labels = np.concatenate([np.full(3, 7), dataset.train_labels[:4], np.full(5, 1)])
    labels[4] += 1
    labels[5] -= 1
    corrected = added(rows(images, labels), dataset, share=0.1, seed=0)

    assert corrected.dropped == 5
    for image in (*dataset.test_images[:3], *dataset.train_images[1:3]):
        assert contains(corrected.dataset.train_images[1000:], image) == 0
        assert contains(corrected.dataset.field_images, image) == 0


def test_none_leave_all_as_it_is(added, dataset):
    corrected = added([], dataset, share=0.1, seed=0)
    assert (len(corrected.used), corrected.dropped) == (0, 0)
    assert (corrected.dataset.train_images == dataset.train_images).all()
    assert corrected.dataset.field_images.shape == (0, 28, 28)


def test_the_digest_depends_on_images_labels_and_the_field_set(added, dataset):
    images = pictures(50, 3)
    digests = {
        added(given, dataset, share=0.1, seed=0).digest
        for given in (rows(images), rows(images[:49]), rows(images, 4))
    }
    assert len(digests) == 3


def test_the_row_says_how_many_were_used_and_their_digest(new_recipe, settings, engine, dataset):
    recipe = new_recipe(corrections=True)
    Corrections(engine, "mnist-5k").add(pictures(40, 3), [3] * 40, actor="anna")
    Corrections(engine, "mnist-5k").add(pictures(2, 5), [None] * 2, actor="anna")
    Corrections(engine, "mnist").add(pictures(1, 4), [3], actor="anna")

    with journal(recipe, settings) as run:
        found = run.note(add_corrections.fn(dataset, run.corrections(), recipe))

    row = run.row()
    assert row.corrections_used + row.field_total == 40
    assert row.field_total == len(found.dataset.field_labels)
    assert (row.corrections_dropped, row.not_digits) == (0, 2)
    assert row.corrections_digest == found.digest
    assert (row.corrections, row.corrections_share) == (True, 0.1)
    assert len(found.dataset.train_images) > 1000


def test_without_the_parameter_none_are_read(new_recipe, settings, engine, dataset):
    Corrections(engine, "mnist-5k").add(pictures(4, 3), [3] * 4, actor="anna")
    with journal(new_recipe(), settings) as run:
        assert run.corrections() is None
        found = run.note(add_corrections.fn(dataset, run.corrections(), new_recipe()))
    assert found.dataset is dataset
    assert (len(found.used), found.dropped, found.columns()) == (0, 0, {})
    assert run.row().corrections_used is None


def test_what_became_of_the_corrections_cannot_be_changed(dataset):
    with pytest.raises(dataclasses.FrozenInstanceError):
        Corrected(dataset).dropped = 3
