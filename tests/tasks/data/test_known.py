"""What the first data of a name is compared with: MNIST's grey levels and the ink of each digit."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.data.dataset import Dataset
from tasks.data.known import unlike_mnist

Images = NDArray[np.uint8]


def turned(images: Images, quarters: int) -> Images:
    return np.rot90(images, quarters, (1, 2))


# What is done to the images, and what is said.
SEEN: dict[str, Callable[[Images], Images]] = {
    "": lambda images: images,
    "inverted (the paper is 255 and the ink 0)": lambda images: 255 - images,
    "transposed (rows and columns exchanged, as EMNIST stores them)": lambda images: (
        images.swapaxes(1, 2)
    ),
    "mirrored (left and right exchanged)": lambda images: images[:, :, ::-1],
    "upside down (top and bottom exchanged)": lambda images: images[:, ::-1],
    "turned by 180 degrees": lambda images: turned(images, 2),
    "turned by 90 degrees to the left": lambda images: turned(images, 1),
    "turned by 90 degrees to the right": lambda images: turned(images, -1),
    "transposed and turned by 180 degrees": lambda images: turned(images.swapaxes(1, 2), 2),
    "of other grey levels (Jensen-Shannon distance 0.32)": lambda images: images // 2,
    "inverted (the paper is 255 and the ink 0); upside down (top and bottom exchanged)": (
        lambda images: 255 - images[:, ::-1]
    ),
}


@pytest.mark.parametrize("said", SEEN)
def test_images_that_are_stored_in_another_way_are_named_as_what_they_look_like(
    mnist_5k: Dataset, said: str
) -> None:
    assert unlike_mnist(SEEN[said](mnist_5k.train_images), mnist_5k.train_labels) == said


def test_labels_that_are_shifted_or_exchanged_are_named(mnist_5k: Dataset) -> None:
    images, labels = mnist_5k.train_images[::4], mnist_5k.train_labels[::4]
    for shift in range(1, 10):
        said = unlike_mnist(images, (labels + shift) % 10)
        assert said == f"labelled with the digit plus {shift}, modulo 10"
    for one, other in combinations(range(10), 2):
        exchanged = np.arange(10)
        exchanged[[one, other]] = other, one
        assert unlike_mnist(images, exchanged[labels]) == (
            f"labelled with other digits (images labelled {one} like a {other},"
            f" labelled {other} like a {one})"
        )


def test_what_shows_no_digits_is_named(mnist_5k: Dataset) -> None:
    labels = np.random.default_rng(0).permutation(mnist_5k.train_labels)
    said = unlike_mnist(mnist_5k.train_images, labels)
    assert said.startswith("of other shapes than MNIST's digits (correlation 0.")


@pytest.mark.parametrize("seed", range(10))
def test_ten_images_of_each_digit_are_enough(mnist_5k: Dataset, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = mnist_5k.train_labels
    chosen = [random.choice(np.flatnonzero(labels == d), 10, replace=False) for d in range(10)]
    few = np.concatenate(chosen)
    assert unlike_mnist(mnist_5k.train_images[few], labels[few]) == ""
