"""Fit the rule that tells which images may be no digit, on training images alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from storage.models.unsure import UnsureRule

# The share of the held-out digits that the rule calls unsure.
CLEAN_UNSURE = 0.02
COMPONENTS = 25
ITERATIONS = 8
PER_DIGIT = 1500
HELD_OUT = 5000

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def fit_rule(images: NDArray[np.uint8], labels: NDArray[np.uint8], predict: Predict) -> UnsureRule:
    """Fit the subspaces on most training images, and the limit on others.

    Args:
        images: uint8, shape (n, 28, 28).
        labels: Integers, shape (n,), 0 to 9.
        predict: Returns the probabilities of images, float32 of shape (m, 10).
    """
    random = np.random.default_rng(0)
    order = random.permutation(len(images))
    held_out = order[: max(1, min(HELD_OUT, len(order) // 6))]
    rest = order[len(held_out) :]
    means = np.zeros((10, 784), np.float32)
    components = np.zeros((10, COMPONENTS, 784), np.float32)
    for digit in range(10):
        rows = rest[labels[rest] == digit][:PER_DIGIT]
        if len(rows):
            pixels = images[rows].reshape(-1, 784).astype(np.float32) / np.float32(255)
            means[digit] = pixels.mean(axis=0)
            components[digit] = _principal(pixels - means[digit], random)
    rule = UnsureRule(means, components, 1.0)
    clean = rule.scores(images[held_out], predict(images[held_out]))
    limit = float(np.quantile(clean, 1 - CLEAN_UNSURE))
    return replace(rule, limit=max(limit, 1.0) if np.isfinite(limit) else 1.0)


def _principal(apart: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """The largest principal components, by orthogonal iteration: float32, shape (25, 784)."""
    basis = random.normal(size=(784, COMPONENTS)).astype(np.float32)
    for _ in range(ITERATIONS):
        basis, _ = np.linalg.qr(apart.T @ (apart @ basis))
    return np.ascontiguousarray(basis.T)
