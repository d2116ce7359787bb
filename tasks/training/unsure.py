"""Fit the rule that tells which images may not be digits, on training images alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from storage.models.unsure import DIMENSIONS, DOUBT, SIDE, WAYS, UnsureRule, shrink

# The share of the held-out digits that the rule calls unsure.
CLEAN_UNSURE = 0.02
# A tenth of what is usual, for images that are all alike.
LEAST_LIMIT = 0.03
# For a network that is sure of all images that it has not seen.
MOST_DOUBT = 10.0
PER_DIGIT = 2000
HELD_OUT = 5000
# Of the 225 dimensions, enough to tell the ways of one digit apart.
LARGEST = 80
ROUNDS_OF_MEANS, ROUNDS_OF_SUBSPACES = 6, 2

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Rows = NDArray[np.float32]


def fit_rule(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    predict: Predict,
    validation: NDArray[np.bool_] | None = None,
) -> UnsureRule:
    """Fit the subspaces on most training images, and the limit on others.

    With a validation part, the weight of doubt is fitted too. Without one, it is ``DOUBT``: a
    network doubts too little what it was trained on.

    Args:
        images: uint8, shape (n, 28, 28).
        labels: Integers, shape (n,), 0 to 9.
        predict: Returns the probabilities of images, float32 of shape (m, 10).
        validation: bool, shape (n,): those that the network was not trained on, for limit
            and doubt; None for none.
    """
    random = np.random.default_rng(0)
    order = random.permutation(len(images))
    if validation is None:
        count = max(1, min(HELD_OUT, len(order) // 6))
        held_out, rest = order[:count], order[count:]
    else:
        held_out, rest = order[validation[order]], order[~validation[order]]
    # Two threads wait for each other at each of many small products: beside other programs it took
    # 20 times as long.
    with threadpool_limits(1, user_api="blas"):
        rule = UnsureRule(_fitted(images, labels, rest, random), 1.0, doubt=0.0)
        answers = predict(images[held_out])
        distances = rule.scores(images[held_out], answers)
    doubts = 1 - answers.max(axis=1).astype(np.float64)
    doubt = DOUBT if validation is None else _weight(distances, doubts)
    limit = float(np.quantile(distances + doubt * doubts, 1 - CLEAN_UNSURE))
    limit = max(limit, LEAST_LIMIT) if np.isfinite(limit) else LEAST_LIMIT
    return replace(rule, limit=limit, doubt=doubt)


def _weight(distances: NDArray[np.float64], doubts: NDArray[np.float64]) -> float:
    """The weight with which distance alone and doubt alone call equally many images unsure."""
    far, doubtful = (np.quantile(part, 1 - CLEAN_UNSURE / 2) for part in (distances, doubts))
    return float(np.clip(far / max(doubtful, 1e-6), DOUBT, MOST_DOUBT)) if doubtful >= 0 else DOUBT


def _fitted(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    rows: NDArray[np.intp],
    random: np.random.Generator,
) -> Rows:
    axes = np.zeros((10, WAYS, DIMENSIONS, SIDE**2), np.float32)
    for digit in range(10):
        chosen = rows[labels[rows] == digit][:PER_DIGIT]
        if len(chosen):
            pixels = shrink(images[chosen]).reshape(-1, SIDE**2) / np.float32(255)
            axes[digit] = _subspaces(pixels, random)
    return axes


def _subspaces(pixels: Rows, random: np.random.Generator) -> Rows:
    """The subspaces nearest to images of one digit: float32, shape (8, 13, 225).

    Their images are grouped by the nearest of their means, then by the nearest subspace. Ho, Yang,
    Lim, Lee and Kriegman, Clustering appearances of objects under varying illumination, CVPR 2003.
    """
    basis = _largest(pixels, LARGEST)
    inputs = pixels @ basis.T
    means = inputs[random.integers(len(inputs), size=WAYS)]
    for _ in range(ROUNDS_OF_MEANS):
        nearest = ((means**2).sum(axis=1) - 2 * inputs @ means.T).argmin(axis=1)
        means = np.stack([group.mean(axis=0) for group in _groups(inputs, nearest)])
    axes = [_largest(group, DIMENSIONS) for group in _groups(inputs, nearest)]
    for _ in range(ROUNDS_OF_SUBSPACES):
        within = [((inputs @ rows.T) ** 2).sum(axis=1) for rows in axes]
        nearest = np.argmax(within, axis=0)
        axes = [_largest(group, DIMENSIONS) for group in _groups(inputs, nearest)]
    return np.stack(axes) @ basis


def _groups(inputs: Rows, nearest: NDArray[np.intp]) -> list[Rows]:
    """The rows of each group; all rows for an empty group."""
    groups = [inputs[nearest == way] for way in range(WAYS)]
    return [group if len(group) else inputs for group in groups]


def _largest(rows: Rows, count: int) -> Rows:
    """The directions in which rows are largest: orthonormal, the largest last."""
    return np.linalg.eigh(rows.T @ rows)[1].T[-count:]
