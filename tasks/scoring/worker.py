"""Score stored models on the test set, in a process of its own: ``python -m tasks.scoring.worker``.

It takes the test set on standard input (npz: images, labels; and of the field set field_images,
field_labels) and, as its one argument, JSON with the models to score: by name a folder and the
digest of its manifest. It prints JSON: by name an evaluation, the golden difference and how many
of the field set are right, or the error; and, where challenger and champion both answered, their
discordant pairs. Neither Prefect nor TensorFlow is imported here.
"""

import io
import json
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DamagedModelError
from storage.models.classifier import Classifier, load_classifier
from storage.models.versions import read_version
from tasks.scoring.measure import measure, surest_mistakes

CHALLENGER, CHAMPION, BEST = "challenger", "champion", "best"
MISTAKES = 24


def score(
    models: dict[str, tuple[str, str]],
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    field_images: NDArray[np.uint8] | None = None,
    field_labels: NDArray[np.uint8] | None = None,
) -> dict[str, Any]:
    """Score each model on the same images.

    Args:
        models: Folder and manifest's digest, by CHALLENGER, CHAMPION or BEST.
        images: uint8, shape (n, 28, 28).
        labels: Integers, shape (n,), 0 to 9.
        field_images: uint8, shape (k, 28, 28): the field set; k may be 0, or it is left out.
        field_labels: Integers, shape (k,), 0 to 9.

    Returns:
        JSON values, as the module says.
    """
    scores: dict[str, Any] = {}
    right = {}
    for name, (folder, digest) in models.items():
        try:
            if name == CHALLENGER:
                # How far its golden batch is off is for the gate to judge.
                classifier = Classifier(read_version(Path(folder), digest))
            else:
                classifier = load_classifier(Path(folder), digest)
            probabilities = classifier.probabilities(images)
            golden_difference = classifier.golden_difference()
            field_correct = _correct(classifier, field_images, field_labels)
        except DamagedModelError as error:
            scores[name] = {"error": str(error)}
            continue
        evaluation = measure(probabilities, labels)
        right[name] = probabilities.argmax(axis=1) == labels
        scores[name] = {
            "loss": evaluation.loss,
            "confusion": evaluation.confusion,
            "golden_difference": golden_difference,
            "field_correct": field_correct,
            "mistakes": [astuple(m) for m in surest_mistakes(probabilities, labels, MISTAKES)],
        }
    if {CHALLENGER, CHAMPION} <= right.keys():
        scores["only_challenger"] = int((right[CHALLENGER] & ~right[CHAMPION]).sum())
        scores["only_champion"] = int((right[CHAMPION] & ~right[CHALLENGER]).sum())
    return scores


def _correct(
    classifier: Classifier, images: NDArray[np.uint8] | None, labels: NDArray[np.uint8] | None
) -> int:
    """Images right; one of which an answer is not finite is wrong."""
    if images is None or labels is None or not len(images):
        return 0
    probabilities = classifier.probabilities(images)
    finite = np.isfinite(probabilities).all(axis=1)
    return int((finite & (probabilities.argmax(axis=1) == labels)).sum())


if __name__ == "__main__":
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as test_set:
        answer = score(json.loads(sys.argv[1]), **test_set)
    sys.stdout.write(json.dumps(answer))
