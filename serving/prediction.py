"""The prediction for one image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.models.classifier import Classifier


def predict_digit(classifier: Classifier, image: NDArray[np.uint8]) -> dict[str, Any]:
    """Classify one image, on its own: a batch never changes the result.

    Args:
        classifier: The model.
        image: uint8, shape (28, 28); 0 is paper, 255 is ink.

    Returns:
        JSON values: digit, probability, runner_up, runner_up_probability and the ten
        probabilities, each in [0, 1].
    """
    (probabilities,) = classifier.probabilities(image[None]).tolist()
    second, first = sorted(range(10), key=probabilities.__getitem__)[-2:]
    return {
        "digit": first,
        "probability": probabilities[first],
        "runner_up": second,
        "runner_up_probability": probabilities[second],
        "probabilities": probabilities,
    }
