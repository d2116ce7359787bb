"""Validation: the training images on which a network is judged while it is made, and never trained.

An image belongs to this part by the digest of its pixels alone. So the part is the same for every
run, it stays as it is when the data grows, and an image that occurs twice is in one part only.
"""

import hashlib
import logging

import numpy as np
from numpy.typing import NDArray

from tasks.preprocess import Examples

# One image in this many.
VALIDATION_SHARE = 12
# Of each digit; figures of fewer images would say little.
LEAST_OF_A_DIGIT = 10

log = logging.getLogger("digits")


def split(examples: Examples, corrections: int = 0) -> tuple[Examples, Examples | None]:
    """Divide the training examples into those to train on and those of the validation part.

    Args:
        examples: All training examples.
        corrections: How many of them, the last ones, are corrections: these are trained on.

    Returns:
        Both parts, in the order given. If the second has fewer than ten images of a digit, all
        examples and None.
    """
    held_out = in_validation(examples.pixels, corrections)
    counts = np.bincount(examples.labels[held_out], minlength=10)
    if counts.min() < LEAST_OF_A_DIGIT:
        log.info(
            "no validation, all %s images are trained on: expected %d or more of each digit in that"
            " part, found %d of %d",
            f"{len(examples):,}", LEAST_OF_A_DIGIT, counts.min(), counts.argmin(),
        )  # fmt: skip
        return examples, None
    return examples[~held_out], examples[held_out]


def in_validation(pixels: NDArray[np.uint8], corrections: int = 0) -> NDArray[np.bool_]:
    """Which images belong to the validation part: the start of their SHA-256 is a small number.

    The first 8 bytes, the most significant first, are less than 2^64 / 12. Corrections never are
    in it, and neither are images that occur among the corrections too.

    Args:
        pixels: uint8, shape (n, 784).
        corrections: How many of them, the last ones, are corrections.

    Returns:
        bool, shape (n,).
    """
    starts = b"".join(hashlib.sha256(image).digest()[:8] for image in np.ascontiguousarray(pixels))
    numbers = np.frombuffer(starts, ">u8")
    corrected = numbers[len(numbers) - corrections :]
    return (numbers < 2**64 // VALIDATION_SHARE) & ~np.isin(numbers, corrected)
