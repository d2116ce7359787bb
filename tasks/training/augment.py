"""Augment: change the images of each batch as other writers, pens and cameras would.

Each image is turned, slanted, enlarged or made smaller, moved and bent, all in one resampling;
strokes become thicker or thinner; some images are blurred or sharpened, faded and made noisy. All
amounts are drawn anew for each image and step. docs/decisions.md says what this gains and costs.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tasks.training.no_digits import with_no_digits

SIDE = 28
# Pixels of paper around an image, where its corners may come from.
MARGIN = 6

DEGREES, SLANT, ZOOM, SHIFT = 12.0, 0.2, 0.12, 2.0
# Pixels that points move on their own (standard deviation); a cubic spline joins 6 x 6 of them.
BEND, POINTS = 1.0, 6
# The shares of the images to which these happen.
THICK, THIN, BLURRED, SHARP, FAINT, NOISY = 0.15, 0.15, 0.15, 0.15, 0.25, 0.25
# The most that both neighbours of a pixel weigh, in each direction.
BLUR = 2 / 3
CONTRAST = 3.0
LEAST_INK = 0.4
NOISE = 0.25

Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def make_augmentation(seed: int, *, no_digits: bool = False) -> Augment:
    """Make a graph function that augments a batch: ``augment(inputs, targets, step)``.

    Inputs are float32 of shape (b, 784) in [0, 1], targets float32 of shape (b, 10), step is an
    int64. It returns other inputs and targets, likewise; seed and step determine them. Each new
    size of a batch costs one compilation, of a second.

    With ``no_digits``, some images, and their targets, become those of ``with_no_digits``.
    """

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, SIDE**2], tf.float32),
            tf.TensorSpec([None, 10], tf.float32),
            tf.TensorSpec([], tf.int64),
        ],
        autograph=False,
    )  # type: ignore[untyped-decorator]
    def augment(
        inputs: tf.Tensor, targets: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.reshape(inputs, [-1, SIDE, SIDE])
        start = tf.stack([tf.constant(seed, tf.int64), step])
        pictures, amounts, bends, grain = tf.unstack(tf.random.split(start, 4))
        if no_digits:
            images, targets = with_no_digits(images, targets, pictures)
        # XLA takes ten times as long as TensorFlow to draw normal numbers.
        count = tf.shape(images)[0]
        bend = BEND * tf.random.stateless_normal([count, 2, POINTS, POINTS], bends)
        noise = NOISE * tf.random.stateless_normal([count, SIDE, SIDE], grain)
        changed = _changed(images, amounts, bend, noise)
        return tf.reshape(changed, [-1, SIDE**2]), targets

    return augment  # type: ignore[no-any-return]


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
def _changed(images: tf.Tensor, key: tf.Tensor, bend: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    drawn = tf.unstack(tf.random.stateless_uniform([10, tf.shape(images)[0], 1, 1], key))
    strokes, focus, ink, grain = drawn[6:]
    x, y = _places(drawn[:6], bend)
    images = _focused(_resampled(_thickened(images, strokes), x, y), focus)
    images *= 1 - (1 - LEAST_INK) * _some(ink, FAINT)
    return tf.clip_by_value(images + _some(grain, NOISY) * noise, 0.0, 1.0)


def _places(drawn: list[tf.Tensor], bend: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each pixel comes from, in pixels from the centre: two of shape (b, 28, 28)."""
    turn, slant, wide, tall, right, down = (2 * share - 1 for share in drawn)
    cos, sin = (f(turn * math.radians(DEGREES)) for f in (tf.cos, tf.sin))
    wide, tall = tf.exp(ZOOM * wide), tf.exp(ZOOM * tall)
    moved = tf.einsum("ij,bcjk,lk->bcil", _SPLINE, bend, _SPLINE)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) - np.float32(SIDE - 1) / 2
    x = wide * (x + SLANT * slant * y)
    return (
        cos * x - sin * tall * y + SHIFT * right + moved[:, 0],
        sin * x + cos * tall * y + SHIFT * down + moved[:, 1],
    )


def _thickened(images: tf.Tensor, strokes: tf.Tensor) -> tf.Tensor:
    """Move some pixels towards the darkest or lightest of four; shape (b, 40, 40), with paper."""
    padded = tf.pad(images, [[0, 0], [MARGIN, MARGIN + 1], [MARGIN, MARGIN + 1]])
    corners = _corners(padded)
    here, thick, thin = corners[0], _most(tf.maximum, corners), _most(tf.minimum, corners)
    return here + _some(strokes, THICK) * (thick - here) + _some(1 - strokes, THIN) * (thin - here)


def _resampled(images: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Bilinear samples at places given from the centre; shape (b, 28, 28)."""
    last = SIDE + 2 * MARGIN - 1
    x, y = (tf.clip_by_value(place + last / 2, 0.0, last - 0.001) for place in (x, y))
    left, top = tf.floor(x), tf.floor(y)
    squares = tf.reshape(tf.stack(_corners(images), axis=-1), [-1, 4])
    first = tf.range(tf.shape(images)[0])[:, None, None] * last**2
    rows = first + tf.cast(top, tf.int32) * last + tf.cast(left, tf.int32)
    a, b, c, d = tf.unstack(tf.gather(squares, rows), axis=-1)
    upper, lower = a + (x - left) * (b - a), c + (x - left) * (d - c)
    return upper + (y - top) * (lower - upper)


def _focused(images: tf.Tensor, focus: tf.Tensor) -> tf.Tensor:
    """Blur some images, and raise the contrast of others."""
    weight = BLUR * _some(focus, BLURRED)
    around = tf.pad(images, [[0, 0], [1, 1], [1, 1]])
    rows = (1 - weight) * around[:, 1:-1] + weight / 2 * (around[:, :-2] + around[:, 2:])
    blurred = (1 - weight) * rows[:, :, 1:-1] + weight / 2 * (rows[:, :, :-2] + rows[:, :, 2:])
    contrast = 1 + (CONTRAST - 1) * _some(1 - focus, SHARP)
    return tf.clip_by_value((blurred - 0.5) * contrast + 0.5, 0.0, 1.0)


def _some(drawn: tf.Tensor, share: float) -> tf.Tensor:
    """From numbers drawn in [0, 1): a share of them in [0, 1), the others 0."""
    return tf.where(drawn < share, drawn / share, 0.0)


def _corners(images: tf.Tensor) -> list[tf.Tensor]:
    """Each pixel, that on its right, that below, and that between."""
    return [images[:, :-1, :-1], images[:, :-1, 1:], images[:, 1:, :-1], images[:, 1:, 1:]]


def _most(f: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], tensors: list[tf.Tensor]) -> tf.Tensor:
    a, b, c, d = tensors
    return f(f(a, b), f(c, d))


def _spline() -> NDArray[np.float32]:
    """Weights of 6 points for each of 28 pixels: cubic B-splines of variance 1, on average."""
    places = np.linspace(1, POINTS - 2, SIDE)
    distances = np.abs(places[:, None] - np.arange(POINTS))
    near = 2 / 3 - distances**2 + distances**3 / 2
    far = (2 - distances).clip(0) ** 3 / 6
    weights: NDArray[np.float32] = np.where(distances < 1, near, far).astype(np.float32)
    weights /= np.sqrt((weights**2).sum(axis=1).mean())
    return weights


_SPLINE = _spline()
