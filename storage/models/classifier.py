"""A stored model, run by LiteRT without TensorFlow."""

import io
import logging
import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from storage.errors import DamagedModelError
from storage.models.unsure import UNSURE, read_rule
from storage.models.versions import Version, read_version
from storage.quiet import drop_stderr_lines

MODEL = "model.tflite"
GOLDEN = "golden.npz"
GOLDEN_TOLERANCE = 1e-4
# Images; a convolutional network needs 0.1 MB for each of them.
AT_ONCE = 500

log = logging.getLogger("digits")
NOTE = re.compile(rb"INFO: Created TensorFlow Lite XNNPACK delegate")


class Classifier:
    """Runs the model of one version.

    Raises:
        DamagedModelError: If LiteRT cannot run it.
    """

    def __init__(self, version: Version) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.version = version
        if GOLDEN not in version.files:
            raise DamagedModelError(
                f"version {version.name}: expected {GOLDEN}, which early releases did not store;"
                " move the folder of this name out of the model store, and the next run that"
                " passes the gate becomes the champion"
            )
        try:
            with drop_stderr_lines(NOTE):
                self._model: Any = Interpreter(model_content=version.files[MODEL])
                self._model.allocate_tensors()
            (self._input,) = self._model.get_input_details()
            (self._output,) = self._model.get_output_details()
            with np.load(io.BytesIO(version.files[GOLDEN]), allow_pickle=False) as golden:
                self._golden = dict(golden)
            self._golden["images"], self._golden["probabilities"]
            # Earlier releases stored none.
            self._rule = read_rule(version.files[UNSURE]) if UNSURE in version.files else None
        except (KeyError, ValueError, RuntimeError, EOFError, BadZipFile) as error:
            raise DamagedModelError(
                f"version {version.name}: expected {MODEL} and {GOLDEN} (and {UNSURE}, if it"
                f" has one) that LiteRT and NumPy can read, received:"
                f" {str(error).partition(chr(10))[0]}"
            ) from error
        if UNSURE in version.files and self._rule is None:
            log.warning(
                "version %s: its %s has the form of another release and is not used: no answer is"
                " unsure until a newer version serves",
                version.name, UNSURE,
            )  # fmt: skip

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict some images.

        Args:
            images: uint8, shape (n, 28, 28), n > 0; 0 is paper, 255 is ink.

        Returns:
            float32, shape (n, 10): the probability of each digit.

        Raises:
            DamagedModelError: If LiteRT cannot run it on them.
        """
        parts = [images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)]
        try:
            answers = [self._answers(part) for part in parts]
        except (RuntimeError, ValueError) as error:
            raise DamagedModelError(
                f"version {self.version.name}: expected a model that answers, received:"
                f" {str(error).partition(chr(10))[0]}"
            ) from error
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _answers(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._model.resize_tensor_input(self._input["index"], images.shape)
        self._model.allocate_tensors()
        self._model.set_tensor(self._input["index"], images)
        self._model.invoke()
        answers: NDArray[np.float32] = self._model.get_tensor(self._output["index"])
        return answers

    def unsure(self, image: NDArray[np.uint8], digit: int, probability: float) -> bool:
        """Tell whether an image may not be a digit; never, if the version has no rule.

        Args:
            image: uint8, shape (28, 28); 0 is paper, 255 is ink.
            digit: The most probable one.
            probability: Of that digit.
        """
        if self._rule is None:
            return False
        return not self._rule.score(image, digit, probability) <= 1

    def unsure_scores(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Score how unlike digits images are: above 1 is unsure. 0 if the version has no rule.

        Args:
            images: uint8, shape (n, 28, 28), n > 0; 0 is paper, 255 is ink.

        Returns:
            float64, shape (n,).
        """
        if self._rule is None:
            return np.zeros(len(images))
        return self._rule.scores(images, self.probabilities(images))

    def golden_difference(self) -> float:
        """Largest difference from what Keras and the rule answered before the model was stored.

        Of a probability, or of a score of the rule; NaN if one is NaN.
        """
        images = self._golden["images"]
        probabilities = self.probabilities(images)
        difference = np.abs(probabilities - self._golden["probabilities"]).max()
        if self._rule is not None and "scores" in self._golden:
            scores = self._rule.scores(images, probabilities)
            difference = np.maximum(difference, np.abs(scores - self._golden["scores"]).max())
        return float(difference)


def load_classifier(folder: Path, digest: str) -> Classifier:
    """Load a version whose digests match and whose answers still equal its golden batch.

    Raises:
        DamagedModelError: If a digest or an answer differs.
    """
    classifier = Classifier(read_version(folder, digest))
    difference = classifier.golden_difference()
    if not difference <= GOLDEN_TOLERANCE:
        raise DamagedModelError(
            f"version {classifier.version.name}: expected its golden batch within"
            f" {GOLDEN_TOLERANCE:g} of Keras' answers, received a difference of {difference:.2g}"
        )
    return classifier
