"""The champion, loaded for predictions, and reloaded when the pointer moves."""

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DamagedModelError, ModelStoreError, VersionNotFoundError
from storage.models.classifier import Classifier, load_classifier
from storage.models.store import ModelStore
from storage.records import Pointer

# A new champion serves within a second: loading takes a tenth of that.
CHECK_INTERVAL_S = 0.25
# A refused version may be repaired, or its disk come back.
RETRY_S = 5

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Champion:
    """A loaded champion, and the name and pointer that it was loaded by."""

    dataset: str
    pointer: Pointer
    classifier: Classifier

    def predict(self, image: NDArray[np.uint8]) -> dict[str, Any]:
        """Classify one image, on its own: a batch never changes the result.

        Args:
            image: uint8, shape (28, 28); 0 is paper, 255 is ink.

        Returns:
            JSON values: digit, probability, runner_up, runner_up_probability and the ten
            probabilities, each in [0, 1]; and unsure, whether it may not be a digit.
        """
        (probabilities,) = self.classifier.probabilities(image[None]).tolist()
        second, first = sorted(range(10), key=probabilities.__getitem__)[-2:]
        return {
            "digit": first,
            "probability": probabilities[first],
            "runner_up": second,
            "runner_up_probability": probabilities[second],
            "probabilities": probabilities,
            "unsure": self.classifier.unsure(image, first, probabilities[first]),
        }


def load_champion(store: ModelStore) -> Champion:
    """Load the current champion, checking every file's digest and the golden batch.

    Raises:
        VersionNotFoundError: If there is no champion yet.
        DamagedModelError: If it cannot be used; the message says what to do.
    """
    while pointer := store.champion():
        try:
            classifier = load_classifier(store.version(pointer.version), pointer.digest)
            return Champion(store.name, pointer, classifier)
        except DamagedModelError as error:
            # Many swaps in quick succession may have removed the version; then try again.
            if store.champion() == pointer:
                raise DamagedModelError(
                    f"{error}; `digits rollback --dataset {store.name}` switches to another version"
                ) from error
    raise VersionNotFoundError(
        f"expected a champion of {store.name}, found none; train one: digits retrain"
    )


class ChampionWatcher:
    """Keeps the current champion loaded, across promotions and rollbacks.

    A champion that cannot be used is refused, and the last good one stays.

    Raises:
        VersionNotFoundError: If there is no champion yet.
        DamagedModelError: If it cannot be used.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._stopped = threading.Event()
        self._tried: Pointer | None = None
        self._retry_at = 0.0
        self.champion = load_champion(store)
        self.refused: str | None = None
        """Why the promoted model is not serving; None if it is."""

    def start(self) -> None:
        """Check the pointer regularly from now on, in a thread."""
        self._stopped.clear()
        threading.Thread(target=self._watch, name="watch-champion", daemon=True).start()

    def stop(self) -> None:
        """Stop checking."""
        self._stopped.set()

    def check(self) -> None:
        """Load the champion if the pointer has moved, without interrupting requests."""
        try:
            pointer = self._store.champion()
            if pointer == self.champion.pointer:
                self.refused = None
            elif pointer != self._tried or time.monotonic() >= self._retry_at:
                self._tried = pointer
                previous = self.champion.pointer.version
                self.champion, self.refused = load_champion(self._store), None
                log.info("serving %s instead of %s", self.champion.pointer.version, previous)
        except Exception as error:  # noqa: BLE001 - in any case the last good model serves
            self._retry_at = time.monotonic() + RETRY_S
            reason = str(error) if isinstance(error, ModelStoreError) else repr(error)
            if reason != self.refused:
                log.warning("still serving %s: %s", self.champion.pointer.version, reason)
            self.refused = reason

    def _watch(self) -> None:
        while not self._stopped.wait(CHECK_INTERVAL_S):
            self.check()
