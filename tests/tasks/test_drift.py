"""Drift: how far the training data lies from the champion's."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import InvalidDataError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from storage.recipe import Recipe
from tasks.data.dataset import Dataset
from tasks.validate import DataCheck, champion_statistics, validate


def with_images(
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> Callable[[Dataset], Dataset]:
    return lambda few: replace(few, train_images=change(few.train_images))


def few_high_digits(few: Dataset) -> Dataset:
    """Of 5 to 9 only what stands among the first hundred images."""
    left = (few.train_labels < 5) | (np.arange(len(few.train_labels)) < 100)
    return replace(few, train_images=few.train_images[left], train_labels=few.train_labels[left])


# Kinds of drift from the champion's data: what is done to it, and what is said to have moved.
DRIFTS: dict[str, tuple[Callable[[Dataset], Dataset], str]] = {
    "paper and ink exchanged": (
        with_images(lambda a: 255 - a),
        r"0\.7\d\d \(grey levels\), 0\.6\d\d \(ink\)",
    ),
    "half the contrast": (with_images(lambda a: a // 2), r"0\.3\d\d \(grey levels\)"),
    "shifted by three pixels": (
        with_images(lambda a: np.roll(a, 3, axis=2)),
        r"0\.3\d\d \(ink\)",
    ),
    "rows and columns exchanged": (
        with_images(lambda a: a.transpose(0, 2, 1)),
        r"0\.\d\d\d \(ink\)",
    ),
    "noise on the paper": (
        with_images(lambda a: a | np.arange(784, dtype=np.uint8).reshape(28, 28) % 64),
        r"0\.\d\d\d \(grey levels\), 0\.\d\d\d \(ink\)",
    ),
    "half the digits hardly there": (
        few_high_digits,
        r"0\.\d\d\d \(labels\)",
    ),
}


@pytest.fixture(scope="module")
def good(few: Dataset) -> DataCheck:
    return validate.fn(few, None, 0.0)


@pytest.mark.parametrize("kind", DRIFTS)
def test_data_far_from_the_champions_is_refused_and_passes_where_the_bound_allows_it(
    new_recipe: Callable[..., Recipe], few: Dataset, good: DataCheck, kind: str
) -> None:
    change, found = DRIFTS[kind]
    max_drift = new_recipe().max_drift
    drifted = change(few)
    with pytest.raises(InvalidDataError, match=f"received {found}; look at the images") as refused:
        validate.fn(drifted, good.statistics, max_drift)
    message = str(refused.value)
    assert "distance of at most 0.2 from the champion's data" in message
    assert "raise max_drift" in message
    assert "\n" not in message
    allowed = validate.fn(drifted, good.statistics, 1.0)
    assert max(allowed.pixel_drift, allowed.label_drift) > max_drift
    # Without a champion there is nothing to be far from.
    assert validate.fn(drifted, None, 0.0).pixel_drift is None


def jensen_shannon(p: list[float], q: list[float]) -> float:
    """Lin's formula, with logarithms to base 2; the distance is the divergence's root."""

    def kullback_leibler(a: list[float], b: list[float]) -> float:
        return math.fsum(x * math.log2(x / y) for x, y in zip(a, b, strict=True) if x)

    p, q = [x / math.fsum(p) for x in p], [x / math.fsum(q) for x in q]
    middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    return math.sqrt((kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2)


def test_drift_is_the_jensen_shannon_distance_of_grey_levels_ink_and_labels(
    mnist_5k: Dataset, few: Dataset
) -> None:
    reference = validate.fn(mnist_5k, None, 1.0).statistics
    for change in (lambda one: one, few_high_digits, DRIFTS["shifted by three pixels"][0]):
        dataset = change(few)
        found = validate.fn(dataset, reference, 1.0)

        def of(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> list[list[float]]:
            levels = [float(((images >= 16 * k) & (images < 16 * k + 16)).sum()) for k in range(16)]
            ink = images.astype(np.float64).sum(axis=0).ravel().tolist()
            return [levels, ink, [float((labels == digit).sum()) for digit in range(10)]]

        levels, ink, labels = (
            jensen_shannon(ours, theirs)
            for ours, theirs in zip(
                of(dataset.train_images, dataset.train_labels),
                of(mnist_5k.train_images, mnist_5k.train_labels),
                strict=True,
            )
        )
        # The statistics are kept to six places.
        assert found.pixel_drift == pytest.approx(max(levels, ink), abs=2e-3)
        assert found.label_drift == pytest.approx(labels, abs=2e-3)


def test_the_same_data_has_not_drifted(few: Dataset, good: DataCheck) -> None:
    again = validate.fn(few, good.statistics, 0.0)
    assert (again.pixel_drift, again.label_drift) == (0, 0)
    for shares in again.statistics.values():
        assert math.fsum(shares) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_two_halves_of_real_digits_drawn_at_random_are_far_within_the_default_bound(
    mnist_5k: Dataset, seed: int, new_recipe: Callable[..., Recipe]
) -> None:
    order = np.random.default_rng(seed).permutation(len(mnist_5k.train_labels))

    def half(part: NDArray[np.intp]) -> Dataset:
        return replace(
            mnist_5k,
            train_images=mnist_5k.train_images[part],
            train_labels=mnist_5k.train_labels[part],
        )

    first = validate.fn(half(order[:2000]), None, 0.0)
    second = validate.fn(half(order[2000:]), first.statistics, new_recipe().max_drift)
    assert 0 < max(second.pixel_drift, second.label_drift) < new_recipe().max_drift / 2


def test_statistics_that_are_not_numbers_are_rejected(few: Dataset, good: DataCheck) -> None:
    # A distance that is not a number is not within any bound.
    missing = {name: [math.nan] * len(shares) for name, shares in good.statistics.items()}
    with pytest.raises(InvalidDataError, match="received nan "):
        validate.fn(few, missing, 1.0)


def test_the_champions_statistics_are_read_from_its_manifest_where_it_has_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ModelStore(LocalFolder(tmp_path), "mine")
    assert champion_statistics(store) is None

    def promote(run_id: str, origin: dict[str, object]) -> None:
        digest = store.stage(run_id, lambda folder: (folder / "model.tflite").touch(), origin)
        store.promote(run_id, digest, store.champion(), actor="test", reason="")

    promote("20260101-000000-aaaaaa", {})  # of a release that did not describe its data
    assert champion_statistics(store) is None
    promote("20260102-000000-aaaaaa", {"training_data": {"labels": [0.5, 0.5]}})
    assert champion_statistics(store) == {"labels": [0.5, 0.5]}
    (store.version("20260102-000000-aaaaaa") / "model.tflite").write_bytes(b"damaged")
    assert champion_statistics(store) is None
    assert "drift cannot be measured: " in caplog.text
