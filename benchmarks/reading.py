"""How real pictures of digits are read: ``python -m benchmarks.reading --dataset FOLDER``.

Draws MNIST's test digits anew in every kind of picture (`benchmarks/drawings.py`) and reads each
with the champion of DIGITS_HOME. Prints how many came out right, were refused, and were wrong with
a probability above 0.9; for numbers, how many were wholly right.
"""

import argparse
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.drawings import KINDS, Picture, number
from benchmarks.training import MNIST
from flows.lookup import only_dataset
from serving.champion import Champion, load_champion
from serving.normalise import find_digits
from storage.errors import ImageError
from storage.models.store import open_store
from storage.settings import read_settings
from tasks.load import load

NUMBERS = {"two digits": 2, "four digits": 4}
SKLEARN = "scikit-learn's digits"
Case = tuple[Picture, str]


def main() -> None:
    """Print one line for each kind."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reading", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("--dataset", default=str(MNIST), help="[default: %(default)s]")
    parser.add_argument("--images", type=int, default=200, help="[default: %(default)s]")
    parser.add_argument("--kind", action="append", help="only this kind; may be repeated")
    parser.add_argument(
        "--training", action="store_true", help="the last 10,000 training digits instead"
    )
    arguments = parser.parse_args()
    settings = read_settings()
    champion = load_champion(open_store(settings, only_dataset(settings, None)))
    data = load.fn(arguments.dataset)
    images, labels = data.test_images, data.test_labels
    if arguments.training:
        images, labels = data.train_images[-10_000:], data.train_labels[-10_000:]
    print(f"| picture | right of {arguments.images} | refused | wrong with p > 0.9 |")
    print("| --- | --- | --- | --- |")
    for kind in arguments.kind or [*KINDS, *NUMBERS, SKLEARN]:
        total, right, refused, sure = measure(
            champion, cases(kind, images, labels, arguments.images)
        )
        shown = f"{right} of {total}" if total != arguments.images else f"{right}"
        print(f"| {kind} | {shown} | {refused} | {sure} |", flush=True)


def cases(
    kind: str, images: NDArray[np.uint8], labels: NDArray[np.uint8], count: int
) -> Iterator[Case]:
    """Pictures of a kind, each with what it shows; the same ones each time."""
    if kind == SKLEARN:
        yield from _sklearn(max(count, 500))
        return
    rng = np.random.default_rng(zlib.crc32(kind.encode()))
    size = NUMBERS.get(kind, 1)
    for chosen in rng.permutation(len(images))[: count * size].reshape(count, size):
        text = "".join(map(str, labels[chosen].tolist()))
        if kind in NUMBERS:
            yield number(list(images[chosen]), rng), text
        else:
            yield KINDS[kind](images[chosen[0]], rng), text


def _sklearn(count: int) -> Iterator[Case]:
    from sklearn.datasets import load_digits

    found = load_digits()
    for image, label in zip(found.images[:count], found.target[:count], strict=True):
        grey = np.rint(255 - image * (255 / 16)).astype(np.uint8)
        yield cv2.resize(grey, (160, 160), interpolation=cv2.INTER_CUBIC), str(label)


def measure(champion: Champion, pictures: Iterator[Case]) -> tuple[int, int, int, int]:
    """Return the number of pictures, right ones, refused ones, and surely wrong ones."""
    total = right = refused = sure = 0
    for picture, text in pictures:
        total += 1
        try:
            digits = find_digits(Image.fromarray(picture))
        except ImageError:
            refused += 1
            continue
        answers = [champion.predict(digit.image) for digit in digits]
        if "".join(str(answer["digit"]) for answer in answers) == text:
            right += 1
        elif min(answer["probability"] for answer in answers) > 0.9:
            sure += 1
    return total, right, refused, sure


if __name__ == "__main__":
    main()
