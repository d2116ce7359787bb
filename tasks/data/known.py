"""What MNIST looks like, and how the first images and labels of a name differ from it.

``python -m tasks.data.known FOLDER`` writes mnist.json from MNIST's four files: the share of each
grey level, and the mean of each digit's training images in blocks of 2 x 2 pixels. It has no image.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Maps = NDArray[np.float64]  # shape (10, 14, 14)

KNOWN = Path(__file__).with_name("mnist.json")
# Correlations, from -1 to 1: how much better another reading of the data must fit, and how well
# handwritten digits fit at least.
CLEAR = 0.2
ALIKE = 0.5
# Jensen-Shannon distance, from 0 to 1.
OTHER_LEVELS = 0.25

TURNS: dict[str, Callable[[Maps], Maps]] = {
    "": lambda maps: maps,
    "transposed (rows and columns exchanged, as EMNIST stores them)": lambda m: m.swapaxes(1, 2),
    "mirrored (left and right exchanged)": lambda maps: maps[:, :, ::-1],
    "upside down (top and bottom exchanged)": lambda maps: maps[:, ::-1],
    "turned by 180 degrees": lambda maps: maps[:, ::-1, ::-1],
    "turned by 90 degrees to the left": lambda maps: np.rot90(maps, -1, (1, 2)),
    "turned by 90 degrees to the right": lambda maps: np.rot90(maps, 1, (1, 2)),
    "transposed and turned by 180 degrees": lambda m: m.swapaxes(1, 2)[:, ::-1, ::-1],
}


def unlike_mnist(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> str:
    """Say how data differs from MNIST, after "is"; empty if it does not.

    Args:
        images: uint8, shape (n, 28, 28).
        labels: Integers, shape (n,), 0 to 9; each digit occurs.
    """
    from scipy.spatial.distance import jensenshannon

    known = json.loads(KNOWN.read_text())
    maps, levels = mean_images(images, labels), grey_levels(images)
    found = []
    if maps.mean() > 127:
        found.append("inverted (the paper is 255 and the ink 0)")
        maps, levels = 255 - maps, levels[::-1]
    distance = float(jensenshannon(levels, known["grey levels"], base=2))
    if distance > OTHER_LEVELS:
        found.append(f"of other grey levels (Jensen-Shannon distance {distance:.2f})")
    return "; ".join([*found, *_shapes(maps, np.array(known["ink"], dtype=np.float64))])


def _shapes(maps: Maps, known: Maps) -> list[str]:
    from scipy.optimize import linear_sum_assignment

    # Of each turn: how its labels fit the digits, the digits that fit best, and how well.
    fits = {name: _correlation(turn(maps), known) for name, turn in TURNS.items()}
    digits = {name: linear_sum_assignment(-fit)[1] for name, fit in fits.items()}
    score = {name: fit[np.arange(10), digits[name]].mean() for name, fit in fits.items()}
    best = max(score, key=score.__getitem__)
    if score[best] - score[""] <= CLEAR:
        best = ""
    if score[best] < ALIKE:
        return [f"of other shapes than MNIST's digits (correlation {score[best]:.2f})"]
    return [text for text in (best, _moved(fits[best], digits[best])) if text]


def grey_levels(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The share of pixels in each of 16 equal parts of 0 to 255, darkest paper first."""
    # In parts: bincount converts each pixel to eight bytes.
    parts = np.array_split(images, -(-len(images) // 1000))
    levels = sum(np.bincount(part.ravel() // 16, minlength=16) for part in parts)
    return np.asarray(levels / images.size, dtype=np.float64)


def mean_images(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Maps:
    """The mean of each label's images in blocks of 2 x 2 pixels: shape (10, 14, 14), 0 to 255."""
    means = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)])
    maps: Maps = means.reshape(10, 14, 2, 14, 2).mean(axis=(2, 4))
    return maps


def _correlation(maps: Maps, known: Maps) -> NDArray[np.float64]:
    """Pearson's correlation of each map with each known one: shape (10, 10).

    Of what sets them apart: the mean of all maps is taken off both.
    """
    maps, known = maps - maps.mean(axis=0), known - known.mean(axis=0)
    return np.corrcoef(maps.reshape(10, -1), known.reshape(10, -1))[:10, 10:]


def _moved(fit: NDArray[np.float64], digits: NDArray[np.intp]) -> str:
    """Which labels look like other digits, in words."""
    labels = np.flatnonzero(digits != np.arange(10))
    if not len(labels) or (fit[labels, digits[labels]] - fit[labels, labels]).mean() <= CLEAR:
        return ""
    (shift, *others) = {int(steps) for steps in (np.arange(10) - digits) % 10}
    if not others:
        return f"labelled with the digit plus {shift}, modulo 10"
    pairs = ", ".join(f"labelled {label} like a {digits[label]}" for label in labels)
    return f"labelled with other digits (images {pairs})"


if __name__ == "__main__":
    from tasks.data.idx import find_files, read_all

    train_images, train_labels, _, _ = read_all(find_files(Path(sys.argv[1])))
    rounded = mean_images(train_images, train_labels).round().astype(int)
    ink = ",\n".join(json.dumps(image.tolist(), separators=(",", ":")) for image in rounded)
    levels = json.dumps(grey_levels(train_images).round(6).tolist())
    KNOWN.write_text(f'{{"grey levels": {levels},\n"ink": [\n{ink}\n]}}\n')
