"""Test images as other hands, pens and cameras would make them: always the same nine ways."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 28
CENTRE = np.full(2, (SIDE - 1) / 2)
# Each way begins with it, so that a further way changes none of the others.
SEED = 0
MOST = 2000

SHIFT = 4  # pixels
SCALE = 0.7
ANGLE = math.radians(20)
SLANT = 0.5  # columns per row
BLUR = 1.0  # standard deviation, pixels
INK = 0.4  # of the ink that was there
NOISE = 0.2 * 255  # standard deviation, grey levels

Images = NDArray[np.uint8]


def transform(images: Images) -> dict[str, Images]:
    """Transform images in every way of TRANSFORMATIONS.

    Args:
        images: uint8, shape (n, 28, 28), n > 0; 0 is paper, 255 is ink.

    Returns:
        By the name of the transformation, images of the same type, shape and order. What leaves
        the 28 x 28 pixels is lost.
    """
    return {name: of(images, np.random.default_rng(SEED)) for name, of in TRANSFORMATIONS.items()}


def evenly(total: int) -> NDArray[np.intp]:
    """The indices of at most MOST of so many images, evenly spread over them."""
    return np.linspace(0, total, min(total, MOST), endpoint=False).astype(np.intp)


def _moved(images: Images, random: np.random.Generator) -> Images:
    steps = random.choice([(SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT)], len(images))
    linear = np.broadcast_to(np.eye(2), (len(images), 2, 2))
    return _warped(images, np.concatenate([linear, steps[:, :, None]], axis=2))


def _smaller(images: Images, _: np.random.Generator) -> Images:
    return _about_the_centre(images, np.broadcast_to(SCALE * np.eye(2), (len(images), 2, 2)))


def _turned(images: Images, random: np.random.Generator) -> Images:
    sine = _signs(images, random) * math.sin(ANGLE)
    cosine = np.full(len(images), math.cos(ANGLE))
    linear = np.stack([cosine, sine, -sine, cosine], axis=1)
    return _about_the_centre(images, linear.reshape(-1, 2, 2))


def _slanted(images: Images, random: np.random.Generator) -> Images:
    linear = np.tile(np.eye(2), (len(images), 1, 1))
    linear[:, 0, 1] = _signs(images, random) * SLANT
    return _about_the_centre(images, linear)


def _thin(images: Images, _: np.random.Generator) -> Images:
    return np.stack([cv2.erode(image, np.ones((2, 2), np.uint8)) for image in images])


def _thick(images: Images, _: np.random.Generator) -> Images:
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return np.stack([cv2.dilate(image, cross) for image in images])


def _blurred(images: Images, _: np.random.Generator) -> Images:
    return np.stack([cv2.GaussianBlur(image, (0, 0), BLUR) for image in images])


def _faint(images: Images, _: np.random.Generator) -> Images:
    less: Images = np.rint(INK * images).astype(np.uint8)
    return less


def _noise(images: Images, random: np.random.Generator) -> Images:
    noise = NOISE * random.standard_normal(images.shape, np.float32)
    noisy: Images = np.rint(images + noise).clip(0, 255).astype(np.uint8)
    return noisy


def _signs(images: Images, random: np.random.Generator) -> NDArray[np.int64]:
    """Of each image, one of the two directions."""
    return random.choice([-1, 1], len(images))


def _about_the_centre(images: Images, linear: NDArray[np.float64]) -> Images:
    """Move each image's pixels by its own matrix, shape (n, 2, 2); the centre stays."""
    offsets = CENTRE - linear @ CENTRE
    return _warped(images, np.concatenate([linear, offsets[:, :, None]], axis=2))


def _warped(images: Images, matrices: NDArray[np.float64]) -> Images:
    """Move each image's pixels by its own matrix, shape (n, 2, 3), between pixels bilinearly."""
    pairs = zip(images, matrices, strict=True)
    return np.stack([cv2.warpAffine(image, matrix, (SIDE, SIDE)) for image, matrix in pairs])


TRANSFORMATIONS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "moved": _moved,
    "smaller": _smaller,
    "turned": _turned,
    "slanted": _slanted,
    "thin": _thin,
    "thick": _thick,
    "blurred": _blurred,
    "faint": _faint,
    "noise": _noise,
}
"""Moved by 4 pixels along a row or column, scaled by 0.7, turned by 20 degrees, slanted by 0.5,
with strokes a pixel thinner or a pixel thicker on each side, blurred by 1 pixel, with 0.4 of the
ink, and with noise of a fifth of full scale. Directions are drawn for each image."""
