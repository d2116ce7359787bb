import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import InvalidDataError
from tasks.data.dataset import Dataset, digest
from tasks.data.idx import FILES
from tasks.load import load
from tasks.validate import MIN_IMAGES, DataCheck, validate

MAX_DRIFT = 0.2


def changed(**arrays: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Dataset], Dataset]:
    """Change some of a dataset's arrays."""
    return lambda few: replace(few, **{k: change(getattr(few, k)) for k, change in arrays.items()})


def with_value(position: int, value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        damaged = array.copy()
        damaged[position] = value
        return damaged

    return change


def scaled_with(value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Pixels in [0, 1] as float32, one of them something else."""

    def change(images: NDArray[Any]) -> NDArray[Any]:
        scaled = images.astype(np.float32) / 255
        scaled[3, 14, 14] = value
        return scaled

    return change


def without(part: str, digit: int, keep: int = 0) -> Callable[[Dataset], Dataset]:
    def change(few: Dataset) -> Dataset:
        images, labels = getattr(few, f"{part}_images"), getattr(few, f"{part}_labels")
        left = np.ones(len(labels), bool)
        left[np.flatnonzero(labels == digit)[keep:]] = False
        return replace(few, **{f"{part}_images": images[left], f"{part}_labels": labels[left]})

    return change


def repeated(part: str, *, other_label: bool) -> Callable[[Dataset], Dataset]:
    """The first image of a part a second time, at its end."""

    def change(few: Dataset) -> Dataset:
        images, labels = getattr(few, f"{part}_images"), getattr(few, f"{part}_labels")
        label = (labels[0] + 1) % 10 if other_label else labels[0]
        return replace(
            few,
            **{
                f"{part}_images": np.concatenate([images, images[:1]]),
                f"{part}_labels": np.append(labels, label),
            },
        )

    return change


def leaked(few: Dataset) -> Dataset:
    images = few.train_images.copy()
    index = int(np.flatnonzero(few.train_labels == few.test_labels[7])[0])
    images[index] = few.test_images[7]
    return replace(few, train_images=images)


SHAPE = r"expected uint8 of shape \(n, 28, 28\) from 0 to 255, received "
LABELS = r"expected integers of shape \(n,\), received "
COUNTS = r"expected as many labels as images, received "
OF_EACH = r"expected at least {} images of each digit, received {}$"

# Kinds of bad data, as arrays: its name, what is done to good data, what is said of it.
BAD: dict[str, tuple[Callable[[Dataset], Dataset], str]] = {
    "pixels as float32": (
        changed(train_images=lambda a: a.astype(np.float32)),
        rf"^training images: {SHAPE}float32 of shape \(360, 28, 28\) from 0 to 255$",
    ),
    "pixels scaled to [0, 1]": (
        changed(test_images=lambda a: (a / 255).astype(np.float32)),
        rf"^test images: {SHAPE}float32 of shape \(60, 28, 28\) from 0 to 1$",
    ),
    "a pixel that is NaN": (
        changed(train_images=scaled_with(math.nan)),
        rf"^training images: {SHAPE}float32 .* from 0 to 1, 1 of them NaN$",
    ),
    "pixels all NaN": (
        changed(train_images=lambda a: np.full(a.shape, np.nan)),
        rf"^training images: {SHAPE}float64 .*, 282,240 of them NaN$",
    ),
    "a pixel that is infinite": (
        changed(train_images=scaled_with(math.inf)),
        rf"^training images: {SHAPE}float32 .* from 0 to inf$",
    ),
    "pixels above 255": (
        changed(train_images=lambda a: a.astype(np.int16) * 2),
        rf"^training images: {SHAPE}int16 .* from 0 to 510$",
    ),
    "pixels below 0": (
        changed(test_images=lambda a: a.astype(np.int16) - 128),
        rf"^test images: {SHAPE}int16 .* from -128 to 127$",
    ),
    "flat images": (
        changed(train_images=lambda a: a.reshape(-1, 784)),
        rf"^training images: {SHAPE}uint8 of shape \(360, 784\)",
    ),
    "images of another size": (
        changed(test_images=lambda a: a[:, :27]),
        rf"^test images: {SHAPE}uint8 of shape \(60, 27, 28\)",
    ),
    "images of a larger size": (
        changed(test_images=lambda a: np.repeat(a, 2, axis=1)),
        rf"^test images: {SHAPE}uint8 of shape \(60, 56, 28\)",
    ),
    "pixels as truth values": (
        changed(train_images=lambda a: a > 127),
        rf"^training images: {SHAPE}bool of shape \(360, 28, 28\)$",
    ),
    "images with colours": (
        changed(train_images=lambda a: np.repeat(a[..., None], 3, axis=3)),
        rf"^training images: {SHAPE}uint8 of shape \(360, 28, 28, 3\)",
    ),
    "labels as float32": (
        changed(train_labels=lambda a: a.astype(np.float32)),
        rf"^training labels: {LABELS}float32 of shape \(360,\) from 0 to 9$",
    ),
    "a label that is NaN": (
        changed(test_labels=lambda a: with_value(2, math.nan)(a.astype(np.float64))),
        rf"^test labels: {LABELS}float64 .*, 1 of them NaN$",
    ),
    "labels one-hot": (
        changed(train_labels=lambda a: np.eye(10, dtype=np.uint8)[a]),
        rf"^training labels: {LABELS}uint8 of shape \(360, 10\)",
    ),
    "a single label": (
        changed(test_labels=lambda a: np.array(3)),
        rf"^test labels: {LABELS}int64 of shape \(\) from 3 to 3$",
    ),
    "labels as text": (
        changed(train_labels=lambda a: a.astype(str)),
        rf"^training labels: {LABELS}<U3 of shape \(360,\)$",
    ),
    "a label of 10": (
        changed(train_labels=with_value(5, 10)),
        r"^training labels: expected digits from 0 to 9, received values from 0 to 10$",
    ),
    "a negative label": (
        changed(test_labels=lambda a: with_value(5, -1)(a.astype(np.int64))),
        r"^test labels: expected digits from 0 to 9, received values from -1 to 9$",
    ),
    "an image without a label": (
        changed(train_labels=lambda a: a[:-1]),
        rf"^training set: {COUNTS}360 images and 359 labels$",
    ),
    "a label without an image": (
        changed(test_images=lambda a: a[1:]),
        rf"^test set: {COUNTS}59 images and 60 labels$",
    ),
    "no training images": (
        changed(train_images=lambda a: a[:0], train_labels=lambda a: a[:0]),
        r"^training set: expected at least one image, received none$",
    ),
    "no test images": (
        changed(test_images=lambda a: a[:0], test_labels=lambda a: a[:0]),
        r"^test set: expected at least one image, received none$",
    ),
    "a digit missing in training": (
        without("train", 3),
        f"^training set: {OF_EACH.format(10, '0 of 3')}",
    ),
    "no zeros in training": (
        without("train", 0),
        f"^training set: {OF_EACH.format(10, '0 of 0')}",
    ),
    "no nines in training": (
        without("train", 9),
        f"^training set: {OF_EACH.format(10, '0 of 9')}",
    ),
    "one digit too few and another just enough": (
        lambda few: without("train", 7, keep=10)(without("train", 6, keep=9)(few)),
        f"^training set: {OF_EACH.format(10, '9 of 6')}",
    ),
    "a digit missing in the test set": (
        without("test", 8),
        f"^test set: {OF_EACH.format(5, '0 of 8')}",
    ),
    "too few of a digit in training": (
        without("train", 6, keep=9),
        f"^training set: {OF_EACH.format(10, '9 of 6')}",
    ),
    "too few of a digit in the test set": (
        without("test", 0, keep=4),
        f"^test set: {OF_EACH.format(5, '4 of 0')}",
    ),
    "one class alone": (
        changed(train_labels=np.zeros_like),
        r"^training set: expected at least 10 images of each digit, received 0 of 1, 0 of 2,",
    ),
    "a blank image": (
        changed(train_images=with_value(11, 0)),
        r"^training images: expected ink on paper, received 1 of one value throughout"
        r" \(the first is image 11\); remove them$",
    ),
    "two blank images": (
        changed(train_images=lambda a: with_value(20, 255)(with_value(11, 0)(a))),
        r"^training images: expected ink on paper, received 2 of one value .*image 11\)",
    ),
    "an image of one grey": (
        changed(test_images=with_value(9, 77)),
        r"^test images: expected ink on paper, received 1 of one value throughout .*image 9\)",
    ),
    "only blank images": (
        changed(train_images=np.zeros_like),
        r"^training images: expected ink on paper, received 360 of one value",
    ),
    "one image with two labels in training": (
        repeated("train", other_label=True),
        r"^training set: expected one label for an image, received 0 and 1 for images 0 and 360,",
    ),
    "one image with two labels in the test set": (
        repeated("test", other_label=True),
        r"^test set: expected one label for an image, received 0 and 1 for images 0 and 60,",
    ),
    "one image with a smaller label the second time": (
        changed(
            train_images=lambda a: np.concatenate([a, a[-1:]]),
            train_labels=lambda a: np.append(a, 0).astype(np.uint8),
        ),
        r"^training set: expected one label for an image, received 9 and 0 for images 359 and 360",
    ),
    "a test image in the training set": (
        leaked,
        r"^expected no image in both training and test set, received 1 \(the first is"
        r" training image \d+ and test image 7\); remove them from the training set$",
    ),
    "training set and test set the same": (
        lambda few: replace(few, test_images=few.train_images, test_labels=few.train_labels),
        r"received 360 \(the first is training image 0 and test image 0\)",
    ),
}

# And in the files: a kind, the file, and what is done to its bytes.
FILE_DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a file cut short": ("train_images", lambda content: content[:-1]),
    "a file with something after its end": ("test_images", lambda content: content + b"\0"),
    "an empty file": ("train_labels", lambda content: b""),
    "a file of something else": ("test_labels", lambda content: b"%PDF-1.7" + content),
    "images where labels should be": ("train_labels", lambda content: b"\0\0\x08\x03" + content),
}

KINDS = [*BAD, *FILE_DAMAGE]


def test_more_than_twenty_five_kinds_of_bad_data_are_tried() -> None:
    assert len(set(KINDS)) == len(KINDS) > 25


@pytest.fixture(scope="module")
def good(few: Dataset) -> DataCheck:
    return validate.fn(few, None, MAX_DRIFT)


@pytest.mark.parametrize("kind", BAD)
def test_bad_data_is_rejected_with_a_message_that_says_expected_and_found(
    few: Dataset, good: DataCheck, kind: str
) -> None:
    damage, said = BAD[kind]
    for reference in (None, good.statistics):
        with pytest.raises(InvalidDataError, match=said) as refused:
            validate.fn(damage(few), reference, MAX_DRIFT)
        message = str(refused.value)
        assert "\n" not in message
        assert re.search("expected .*received ", message)


def test_the_data_is_described_by_shares_of_six_decimals(good: DataCheck) -> None:
    lengths = {name: len(shares) for name, shares in good.statistics.items()}
    assert lengths == {"grey levels": 16, "ink": 784, "labels": 10}
    shares = [share for shares in good.statistics.values() for share in shares]
    assert all(round(share, 6) == share for share in shares)
    assert any(round(share, 5) != share for share in shares)


@pytest.mark.parametrize("kind", FILE_DAMAGE)
def test_a_damaged_file_is_refused_by_its_name_before_there_are_images(
    few: Dataset, write_idx: Callable[..., Path], kind: str
) -> None:
    name, damage = FILE_DAMAGE[kind]
    folder = write_idx(few)
    path = folder / FILES[name]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidDataError) as refused:
        validate.fn(load.fn(str(folder)), None, MAX_DRIFT)
    assert re.fullmatch(rf"{re.escape(str(path))}: expected .*received.*", str(refused.value))


@pytest.mark.parametrize("labels", [np.uint8, np.int64])
def test_good_data_passes_unchanged(few: Dataset, labels: type) -> None:
    dataset = replace(few, train_labels=few.train_labels.astype(labels))
    found = validate.fn(dataset, None, MAX_DRIFT)
    assert found.duplicates == 0
    assert (found.pixel_drift, found.label_drift) == (None, None)
    assert dataset.test_digest == digest(few.test_images, few.test_labels)
    arrays = (few.train_images, few.train_labels, few.test_images, few.test_labels)
    assert digest(*arrays) == few.digest


def test_each_digit_needs_ten_training_and_five_test_images() -> None:
    assert MIN_IMAGES == {"training": 10, "test": 5}


def test_a_larger_set_needs_a_share_of_each_digit_not_only_ten_images(mnist_5k: Dataset) -> None:
    floor = 74  # 2 % of 3,700 images
    with pytest.raises(InvalidDataError, match=f"received {floor - 20} of 4$"):
        validate.fn(without("train", 4, floor - 20)(mnist_5k), None, MAX_DRIFT)
    assert validate.fn(without("train", 4, floor)(mnist_5k), None, MAX_DRIFT).duplicates == 0


def test_duplicates_are_counted_and_nothing_is_dropped(
    few: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = repeated("train", other_label=False)(repeated("test", other_label=False)(few))
    assert validate.fn(dataset, None, MAX_DRIFT).duplicates == 2
    assert len(dataset.train_images) == 361
    assert "2 images occur in their set a second time" in caplog.text
