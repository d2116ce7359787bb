"""Score stored models in a process of their own: ``python -m tasks.scoring.worker``.

Its one argument is REQUEST as JSON: the models to score. Standard input holds the images (npz:
images, labels, field_images, field_labels, field_actors, training_images, training_labels,
not_digits). It prints ANSWER as JSON. It imports neither Prefect nor TensorFlow.
"""

import io
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from pydantic_core import to_json

from storage.errors import DamagedModelError
from storage.models.classifier import Classifier, load_classifier
from storage.models.versions import read_version
from tasks.scoring.reference import Confusion, Record
from tasks.scoring.statistics import calibration_error, loss_and_confusion
from tasks.scoring.values import Counts, Mistake, NotScored, Pairs, Score

CHALLENGER, CHAMPION, BEST = "challenger", "champion", "best"
MISTAKES = 24


@dataclass(frozen=True)
class StoredModel:
    """A model to score: its folder, and the SHA-256 of its manifest."""

    folder: Path
    digest: str


@dataclass(frozen=True)
class Answer:
    """What the models answered.

    Args:
        scores: One for each model of the request.
        pairs: On the test set; None unless both challenger and champion answered.
        field_pairs: Likewise on each part of the field set: one digit's, or one person's.
    """

    scores: dict[str, Score | NotScored]
    pairs: Pairs | None = None
    field_pairs: dict[str, Pairs] = field(default_factory=dict)


REQUEST = TypeAdapter(dict[str, StoredModel])
ANSWER = TypeAdapter(Answer)


@dataclass(frozen=True)
class Asked:
    """The images that the models answer: uint8, shape (n, 28, 28), and their labels, shape (n,).

    Args:
        images: The test set.
        labels: Its digits.
        field_images: The field set, which may be empty.
        field_labels: Its digits.
        field_actors: Text, shape (n,): who sent each of its images.
        training_images: Only the champion is asked about them.
        training_labels: Their digits.
        not_digits: Images that are not a digit; there may be none.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    field_images: NDArray[np.uint8]
    field_labels: NDArray[np.uint8]
    field_actors: NDArray[np.str_]
    training_images: NDArray[np.uint8]
    training_labels: NDArray[np.uint8]
    not_digits: NDArray[np.uint8]


def score_models(models: dict[str, StoredModel], asked: Asked) -> Answer:
    """Score each model, named CHALLENGER, CHAMPION or BEST, on the same images.

    All but BEST also answer some of the test images transformed.
    """
    # OpenCV: the run, which imports this module too, does not need it.
    from tasks.scoring.transformations import evenly, transform

    chosen = evenly(len(asked.images))
    transformed = transform(asked.images[chosen])
    scores: dict[str, Score | NotScored] = {}
    right, right_in_field = {}, {}
    for name, model in models.items():
        try:
            classifier = _loaded(name, model)
            probabilities = classifier.probabilities(asked.images)
            right_in_field[name] = _right(classifier, asked.field_images, asked.field_labels)
            scores[name] = Score(
                loss_and_confusion(probabilities, asked.labels),
                classifier.golden_difference(),
                surest_mistakes(probabilities, asked.labels, MISTAKES),
                _counts(right_in_field[name]),
                calibration_error(probabilities, asked.labels),
                *(_reference(classifier, asked) if name == CHAMPION else (None, None)),
                _sure(classifier, asked.not_digits),
                None
                if name == BEST
                else _robustness(classifier, transformed, asked.labels[chosen]),
            )
            right[name] = probabilities.argmax(axis=1) == asked.labels
        except DamagedModelError as error:
            scores[name] = NotScored(str(error))
    if not {CHALLENGER, CHAMPION} <= right.keys():
        return Answer(scores)
    ours, champions = right_in_field[CHALLENGER], right_in_field[CHAMPION]
    labels, actors = asked.field_labels, asked.field_actors
    parts = {f"digit {digit}": labels == digit for digit in np.unique(labels)}
    parts |= {f"by {actor}": actors == actor for actor in np.unique(actors)}
    return Answer(
        scores,
        _pairs(right[CHALLENGER], right[CHAMPION]),
        {part: _pairs(ours[rows], champions[rows]) for part, rows in parts.items()},
    )


def _loaded(name: str, model: StoredModel) -> Classifier:
    """The model; how far the challenger's golden batch is off is for the gate to judge."""
    if name == CHALLENGER:
        return Classifier(read_version(model.folder, model.digest))
    return load_classifier(model.folder, model.digest)


def _counts(right: NDArray[np.bool_]) -> Counts | None:
    return Counts(int(right.sum()), len(right)) if len(right) else None


def _sure(classifier: Classifier, not_digits: NDArray[np.uint8]) -> int | None:
    """How many images that are not a digit it answers surely; None without one."""
    return int((classifier.unsure_scores(not_digits) <= 1).sum()) if len(not_digits) else None


def _pairs(ours: NDArray[np.bool_], champions: NDArray[np.bool_]) -> Pairs:
    return Pairs(int((ours & ~champions).sum()), int((champions & ~ours).sum()))


def _reference(champion: Classifier, asked: Asked) -> tuple[Record | None, Confusion | None]:
    """Its record, and what it answers to training images; None where there is neither."""
    record = Record.of(champion.version.manifest)
    if not len(asked.training_images):
        return record, None
    probabilities = champion.probabilities(asked.training_images)
    return record, loss_and_confusion(probabilities, asked.training_labels).confusion


def _robustness(
    classifier: Classifier, transformed: dict[str, NDArray[np.uint8]], labels: NDArray[np.uint8]
) -> dict[str, Counts] | None:
    """What it gets right of each transformation; None if any probability is not finite."""
    found = {}
    for name, images in transformed.items():
        probabilities = classifier.probabilities(images)
        if not np.isfinite(probabilities).all():
            return None
        correct = int((probabilities.argmax(axis=1) == labels).sum())
        found[name] = Counts(correct, len(labels))
    return found


def surest_mistakes(
    probabilities: NDArray[np.float32], labels: NDArray[np.integer], limit: int
) -> tuple[Mistake, ...]:
    """The most confident wrong answers, most confident first.

    Args:
        probabilities: float32, shape (n, 10), one column per digit.
        labels: Integers, shape (n,), 0 to 9: the true digits.
        limit: At most this many.
    """
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    surest = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")][:limit]
    return tuple(
        Mistake(int(i), int(labels[i]), int(answers[i]), float(probabilities[i, answers[i]]))
        for i in surest
    )


def _right(
    classifier: Classifier, images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Which answers are right; one that is not finite is wrong."""
    if not len(images):
        return np.empty(0, dtype=np.bool_)
    probabilities = classifier.probabilities(images)
    right: NDArray[np.bool_] = probabilities.argmax(axis=1) == labels
    return right & np.isfinite(probabilities).all(axis=1)


if __name__ == "__main__":
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as test_set:
        answer = score_models(REQUEST.validate_json(sys.argv[1]), Asked(**test_set))
    sys.stdout.buffer.write(to_json(answer, inf_nan_mode="constants"))
