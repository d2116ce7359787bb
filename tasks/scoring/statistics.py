"""The statistics of answers and counts: loss, confusion, interval, paired test."""

import numpy as np
from numpy.typing import NDArray

from storage.records import Evaluation

# Keras clips probabilities here before taking their logarithm (keras.config.epsilon).
EPSILON = 1e-7
CONFIDENCE = 0.95
BINS = 15


def loss_and_confusion(
    probabilities: NDArray[np.float32], labels: NDArray[np.integer]
) -> Evaluation:
    """Compute the loss and count right and wrong answers.

    Accuracy is kept as two integers: as the float32 that Keras returns, 9,500 of 10,000 is
    below 0.95.

    Args:
        probabilities: float32, shape (n, 10), one column per digit.
        labels: Integers, shape (n,), 0 to 9: the true digits.

    Returns:
        The loss is NaN if any probability is not finite.
    """
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    loss = float("nan")
    if len(labels) and np.isfinite(probabilities).all():
        of_the_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        loss = float(-np.log(of_the_true.clip(EPSILON, 1)).mean())
    return Evaluation(loss, tuple(tuple(map(int, row)) for row in confusion))


def calibration_error(probabilities: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """The expected calibration error: how far probabilities are from the share that is right.

    The mean over the answers in BINS equal intervals of the largest probability. Naeini, Cooper and
    Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.

    Args:
        probabilities: float32, shape (n, 10), one column per digit.
        labels: Integers, shape (n,), 0 to 9: the true digits.

    Returns:
        In [0, 1]; NaN without images, or if any probability is not finite.
    """
    if not len(labels) or not np.isfinite(probabilities).all():
        return float("nan")
    largest = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((largest * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, largest - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def interval(correct: int, total: int) -> tuple[float, float]:
    """The exact two-sided 95% confidence interval of an accuracy.

    Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of
    the binomial, Biometrika 26 (1934), 404-413. ``total`` must be above 0.
    """
    from scipy.stats import binomtest

    bounds = binomtest(correct, total).proportion_ci(CONFIDENCE, method="exact")
    return float(bounds.low), float(bounds.high)


def chance_of_rise(now: int, total: int, then: int, total_then: int) -> float:
    """One-sided exact p-value: the probability of so large a count by chance.

    Fisher, On the interpretation of chi-squared from contingency tables, Journal of the Royal
    Statistical Society 85 (1922), 87-94.

    Args:
        now: Images that were counted.
        total: Of so many.
        then: Images that were counted before.
        total_then: Of so many.
    """
    from scipy.stats import hypergeom

    return float(hypergeom.sf(now - 1, total + total_then, now + then, total))


def mcnemar(wins: int, losses: int) -> float:
    """One-sided exact p-value: the probability of so many wins by chance.

    A win is an image that only the one of two models gets right, a loss one that only the other.
    McNemar, Note on the sampling error of the difference between correlated proportions or
    percentages, Psychometrika 12 (1947), 153-157; exact, by the binomial distribution.
    """
    from scipy.stats import binomtest

    pairs = wins + losses
    return float(binomtest(wins, pairs, alternative="greater").pvalue) if pairs else 1.0
