"""Validate: refuse data that the network must not be trained on."""

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.errors import InvalidDataError, ModelStoreError
from storage.models.store import ModelStore
from tasks.data.dataset import Dataset
from tasks.data.known import grey_levels, unlike_mnist

# Of each digit, in training and test set; and never under this share of the set.
MIN_IMAGES = {"training": 10, "test": 5}
MIN_SHARE = 0.02

Statistics = dict[str, list[float]]

log = logging.getLogger("digits")


@dataclass(frozen=True)
class DataCheck:
    """What was found in data that may be trained on.

    Args:
        duplicates: Images that occur a second time in the training set or in the test set.
        statistics: How the training data is distributed; each list adds up to 1.
        pixel_drift: Jensen-Shannon distance, in [0, 1], from the champion's training data:
            of grey levels or of where the ink lies, the larger one; None without a champion.
        label_drift: Likewise of the labels.
        unlike_mnist: How the training data differs from MNIST's, in words; empty with a champion.
    """

    duplicates: int
    statistics: Statistics
    pixel_drift: float | None
    label_drift: float | None
    unlike_mnist: str = ""

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        return {
            "duplicates": self.duplicates,
            "pixel_drift": self.pixel_drift,
            "label_drift": self.label_drift,
            "unlike_mnist": self.unlike_mnist or None,
        }


@task(cache_policy=NO_CACHE)
def validate(dataset: Dataset, reference: Statistics | None, max_drift: float) -> DataCheck:
    """Check what training relies on; nothing is dropped or repaired.

    Args:
        dataset: As loaded.
        reference: ``DataCheck.statistics`` of the champion's data; None if there is none.
        max_drift: The largest Jensen-Shannon distance from it, in [0, 1].

    Raises:
        InvalidDataError: If a check fails; the message names what was expected and received.
    """
    for part, images, labels in (
        ("training", dataset.train_images, dataset.train_labels),
        ("test", dataset.test_images, dataset.test_labels),
    ):
        _check_arrays(part, images, labels)
        _check_content(part, images, labels)
    training = _check_repetitions("training", dataset.train_images, dataset.train_labels)
    test = _check_repetitions("test", dataset.test_images, dataset.test_labels)
    _check_disjoint(training, test)
    statistics = _describe(dataset.train_images, dataset.train_labels)
    pixel_drift, label_drift = _check_drift(statistics, reference, max_drift)
    duplicates = len(dataset.train_images) - len(training) + len(dataset.test_images) - len(test)
    if duplicates:
        log.warning("%s images occur in their set a second time", f"{duplicates:,}")
    unlike = unlike_mnist(dataset.train_images, dataset.train_labels) if reference is None else ""
    if unlike:
        log.warning("compared with MNIST's, the training data is %s", unlike)
    return DataCheck(duplicates, statistics, pixel_drift, label_drift, unlike)


def champion_statistics(store: ModelStore) -> Statistics | None:
    """How the champion's training data is distributed; None where that is not known."""
    try:
        champion = store.read_champion()
    except ModelStoreError as error:
        log.warning("drift cannot be measured: %s", error)
        return None
    return champion[1].manifest.get("training_data") if champion else None


def _check_arrays(part: str, images: NDArray[Any], labels: NDArray[Any]) -> None:
    """Check dtypes, shapes and the range of the labels."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (28, 28):
        raise InvalidDataError(
            f"{part} images: expected uint8 of shape (n, 28, 28) from 0 to 255,"
            f" received {_described(images)}"
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InvalidDataError(
            f"{part} labels: expected integers of shape (n,), received {_described(labels)}"
        )
    if len(images) != len(labels):
        raise InvalidDataError(
            f"{part} set: expected as many labels as images,"
            f" received {len(images)} images and {len(labels)} labels"
        )
    if len(images) == 0:
        raise InvalidDataError(f"{part} set: expected at least one image, received none")
    if labels.min() < 0 or labels.max() > 9:
        raise InvalidDataError(
            f"{part} labels: expected digits from 0 to 9,"
            f" received values from {labels.min()} to {labels.max()}"
        )


def _check_content(part: str, images: NDArray[np.uint8], labels: NDArray[np.integer]) -> None:
    """Check that there are enough images of each digit, and none that is blank."""
    counts = np.bincount(labels, minlength=10)
    floor = max(MIN_IMAGES[part], int(MIN_SHARE * len(labels)))
    if counts.min() < floor:
        few = ", ".join(f"{counts[digit]} of {digit}" for digit in np.flatnonzero(counts < floor))
        raise InvalidDataError(
            f"{part} set: expected at least {floor:,} images of each digit, received {few}"
        )
    flat = images.reshape(len(images), -1)
    blank = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1))
    if len(blank):
        raise InvalidDataError(
            f"{part} images: expected ink on paper, received {len(blank):,} of one value"
            f" throughout (the first is image {blank[0]}); remove them"
        )


def _described(array: NDArray[Any]) -> str:
    text = f"{array.dtype} of shape {array.shape}"
    if not (array.size and np.issubdtype(array.dtype, np.number)):
        return text
    missing = int(np.isnan(array).sum())
    if missing < array.size:
        text += f" from {np.nanmin(array):g} to {np.nanmax(array):g}"
    return f"{text}, {missing:,} of them NaN" if missing else text


def _check_repetitions(
    part: str, images: NDArray[np.uint8], labels: NDArray[np.integer]
) -> dict[bytes, int]:
    """Index of each image's first occurrence, by its SHA-256; two labels for one are refused."""
    first: dict[bytes, int] = {}
    for index, image in enumerate(np.ascontiguousarray(images)):
        other = first.setdefault(hashlib.sha256(image.data).digest(), index)
        if labels[other] != labels[index]:
            raise InvalidDataError(
                f"{part} set: expected one label for an image, received {labels[other]} and"
                f" {labels[index]} for images {other} and {index}, which are the same;"
                " remove the wrong one"
            )
    return first


def _check_disjoint(training: dict[bytes, int], test: dict[bytes, int]) -> None:
    in_both = training.keys() & test.keys()
    if in_both:
        first = min(in_both, key=training.__getitem__)
        raise InvalidDataError(
            f"expected no image in both training and test set, received {len(in_both):,}"
            f" (the first is training image {training[first]} and test image {test[first]});"
            " remove them from the training set"
        )


def _describe(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Statistics:
    ink = images.mean(axis=0).ravel()
    found = {
        "grey levels": grey_levels(images),
        "ink": ink / ink.sum(),
        "labels": np.bincount(labels, minlength=10) / len(labels),
    }
    return {name: np.round(shares, 6).tolist() for name, shares in found.items()}


def _check_drift(
    statistics: Statistics, reference: Statistics | None, max_drift: float
) -> tuple[float | None, float | None]:
    """Drift of pixels and of labels; both None where it cannot be measured.

    Jensen-Shannon distances to base 2: 0 for the same distribution, 1 for nothing shared.
    Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information
    Theory 37 (1991), 145-151.
    """
    if reference is None:
        return None, None
    if _sizes(statistics) != _sizes(reference):  # those of two releases may differ
        log.warning("drift cannot be measured: the champion's data was described differently")
        return None, None
    from scipy.spatial.distance import jensenshannon

    drift = {
        name: float(jensenshannon(shares, reference[name], base=2))
        for name, shares in statistics.items()
    }
    pixel_drift, label_drift = max(drift["grey levels"], drift["ink"]), drift["labels"]
    log.info("drift from the champion's data: pixels %.3f, labels %.3f", pixel_drift, label_drift)
    far = {name: distance for name, distance in drift.items() if not distance <= max_drift}
    if far:
        found = ", ".join(f"{distance:.3f} ({name})" for name, distance in far.items())
        raise InvalidDataError(
            f"training data: expected a Jensen-Shannon distance of at most {max_drift:g} from"
            f" the champion's data, received {found}; look at the images, or raise max_drift"
            " if the change is intended"
        )
    return pixel_drift, label_drift


def _sizes(statistics: Statistics) -> dict[str, int]:
    return {name: len(shares) for name, shares in statistics.items()}
