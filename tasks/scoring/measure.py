"""What is measured of models on the test set, and how sure one may be of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.records import Evaluation, Pointer, Swap

# Keras clips probabilities there before it takes their logarithm (keras.config.epsilon).
EPSILON = 1e-7
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mistake:
    """A test image that a model gets wrong.

    Args:
        index: Of the image in the test set.
        true: The digit that it shows.
        said: The digit that the model says.
        probability: How sure the model is of it, in [0, 1].
    """

    index: int
    true: int
    said: int
    probability: float


@dataclass(frozen=True)
class FieldScore:
    """What a model does with the field set.

    Args:
        correct: Images right.
        total: Images; may be 0.
    """

    correct: int
    total: int


@dataclass(frozen=True)
class Score:
    """What a stored model does.

    Args:
        evaluation: On the test set.
        golden_difference: Largest difference of a probability, on the golden batch, from
            what Keras said; may be NaN.
        mistakes: Those that it is surest of, the surest first.
        field: On the field set; None without one.
    """

    evaluation: Evaluation
    golden_difference: float
    mistakes: tuple[Mistake, ...] = ()
    field: FieldScore | None = None


@dataclass(frozen=True)
class Measurements:
    """Everything that the gate decides from. Where a score is a text, it says why there is none.

    Args:
        trained: The challenger in memory, as Keras evaluates it.
        challenger: The challenger's stored bytes.
        champion: The champion's stored bytes, on the same images in the same process; None
            without a champion.
        best: Likewise of the best champion ever, where the champion's rule asks for it.
        compared_with: The pointer that named the champion.
        only_challenger: Images that the challenger alone gets right; None if not counted.
        only_champion: Images that the champion alone gets right; None if not counted.
        rolled_back: The rollback that took the challenger's very weights out of use.
    """

    trained: Evaluation
    challenger: Score | str
    champion: Score | str | None = None
    best: Score | str | None = None
    compared_with: Pointer | None = None
    only_challenger: int | None = None
    only_champion: int | None = None
    rolled_back: Swap | None = None


def measure(probabilities: NDArray[np.float32], labels: NDArray[np.integer]) -> Evaluation:
    """Loss and confusion of some answers.

    Accuracy is kept as two integers: as a float32, which is what Keras gives, 9,500 of
    10,000 is below 0.95.

    Args:
        probabilities: float32, shape (n, 10), of each digit.
        labels: Integers, shape (n,), 0 to 9: the true digits.

    Returns:
        Its loss is NaN if any probability is not finite.
    """
    confusion = np.zeros((10, 10), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    loss = float("nan")
    if len(labels) and np.isfinite(probabilities).all():
        of_the_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        loss = float(-np.log(of_the_true.clip(EPSILON, 1)).mean())
    return Evaluation(loss, tuple(tuple(map(int, row)) for row in confusion))


def surest_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.integer], limit: int
) -> list[Mistake]:
    """The wrong answers with the highest probability, the surest first.

    Args:
        probabilities: float32, shape (n, 10), of each digit; finite.
        labels: Integers, shape (n,), 0 to 9: the true digits.
        limit: So many at most.
    """
    said = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(said != labels)
    surest = wrong[np.argsort(-probabilities[wrong, said[wrong]], kind="stable")][:limit]
    return [
        Mistake(int(i), int(labels[i]), int(said[i]), float(probabilities[i, said[i]]))
        for i in surest
    ]


def interval(correct: int, total: int) -> tuple[float, float]:
    """The exact two-sided 95 % interval of an accuracy.

    Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of
    the binomial, Biometrika 26 (1934), 404-413.

    Args:
        correct: Images right.
        total: Images, more than 0.
    """
    from scipy.stats import binomtest

    bounds = binomtest(correct, total).proportion_ci(CONFIDENCE, method="exact")
    return float(bounds.low), float(bounds.high)


def mcnemar(only_challenger: int, only_champion: int) -> float:
    """One-sided exact p-value: how likely so many pairs for the challenger are by chance.

    McNemar, Note on the sampling error of the difference between correlated proportions or
    percentages, Psychometrika 12 (1947), 153-157; exact, by the binomial distribution.

    Args:
        only_challenger: Images that the challenger alone gets right.
        only_champion: Images that the champion alone gets right.
    """
    from scipy.stats import binomtest

    pairs = only_challenger + only_champion
    if not pairs:
        return 1.0
    return float(binomtest(only_challenger, pairs, alternative="greater").pvalue)
