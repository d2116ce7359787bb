"""What a champion promises besides accuracy: ``python -m benchmarks.model_figures``.

Prints the milliseconds that LiteRT takes for one image with one thread, the size of the model, the
expected calibration error on the test images, and the accuracy on scikit-learn's 1,797 digits of
8 x 8 pixels, which come from other writers and no model is trained on: scaled to MNIST's 20 pixels
smoothly (bicubic) and sharply (nearest neighbour), and centred by their mass. Exits with 1 if a
goal is not met. The champion is read from DIGITS_HOME.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import center_of_mass
from sklearn.datasets import load_digits

from benchmarks.training import MNIST
from serving.champion import load_champion
from storage.errors import DigitsError
from storage.models.classifier import MODEL, Classifier
from storage.models.store import open_store
from storage.settings import read_settings
from tasks.load import load
from tasks.scoring.statistics import calibration_error

TIMED = 2000
SIDE, FIT = 28, 20


def main() -> None:
    """Print the figures of one champion."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.model_figures", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument(
        "--dataset", default=str(MNIST), help="with the test images [default: %(default)s]"
    )
    parser.add_argument("--name", help="name of the champion [default: as the data's]")
    arguments = parser.parse_args()
    try:
        met = report(arguments.dataset, arguments.name or Path(arguments.dataset).name)
    except DigitsError as error:
        sys.exit(f"python -m benchmarks.model_figures: {error}")
    sys.exit(0 if met else 1)


def report(dataset: str, name: str) -> bool:
    """Print each figure beside its goal; return whether all are met."""
    classifier = load_champion(open_store(read_settings(), name)).classifier
    images, labels = (data := load.fn(dataset)).test_images, data.test_labels
    version = classifier.version
    print(f"champion {version.name}, {version.manifest['architecture']}")
    error = calibration_error(classifier.probabilities(images), labels)
    most = (
        ("LiteRT, ms an image", milliseconds(classifier, images), 0.5),
        ("model, MB", len(version.files[MODEL]) / 1e6, 2.0),
        ("expected calibration error, test images", error, 0.003),
    )
    least = (
        ("scikit-learn's digits, smooth", others(classifier, Image.Resampling.BICUBIC), 0.965),
        ("scikit-learn's digits, sharp", others(classifier, Image.Resampling.NEAREST), 0.94),
    )
    shown = [(*goal, "most", goal[1] <= goal[2]) for goal in most]
    shown += [(*goal, "least", goal[1] >= goal[2]) for goal in least]
    for what, value, bound, word, met in shown:
        print(f"{what:42}{value:9.4f}   at {word} {bound:g}: {'met' if met else 'not met'}")
    return all(met for *_, met in shown)


def milliseconds(classifier: Classifier, images: NDArray[np.uint8]) -> float:
    """The median of one image at a time, with LiteRT's one thread."""
    taken = []
    for image in images[:TIMED]:
        started = time.perf_counter()
        classifier.probabilities(image[None])
        taken.append(time.perf_counter() - started)
    return 1000 * median(taken)


def others(classifier: Classifier, resampling: Image.Resampling) -> float:
    """The accuracy on scikit-learn's digits, in [0, 1]."""
    found = load_digits()
    images = np.stack([in_mnists_manner(image, resampling) for image in found.images])
    return float((classifier.probabilities(images).argmax(axis=1) == found.target).mean())


def in_mnists_manner(image: NDArray[np.float64], resampling: Image.Resampling) -> NDArray[np.uint8]:
    """Scale the ink's longer side to 20 pixels, and centre the ink by its mass.

    Args:
        image: Shape (8, 8), from 0 (paper) to 16 (ink).
        resampling: How pixels between others are filled.

    Returns:
        uint8, shape (28, 28); 0 is paper, 255 is ink.
    """
    rows, columns = np.nonzero(image)
    ink = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] * (255 / 16)
    height, width = (round(side * FIT / max(ink.shape)) for side in ink.shape)
    large = Image.fromarray(np.rint(ink).astype(np.uint8)).resize((width, height), resampling)
    placed = np.zeros((SIDE, SIDE), np.uint8)
    row, column = (round(SIDE / 2 - at) for at in center_of_mass(np.asarray(large)))
    top = min(max(row, 0), SIDE - height)
    left = min(max(column, 0), SIDE - width)
    placed[top : top + height, left : left + width] = large
    return placed


if __name__ == "__main__":
    main()
