"""The champion, ready to answer, and followed as the pointer moves."""

import logging
import threading
import time
from dataclasses import dataclass

from storage.errors import DamagedModelError, ModelStoreError, VersionNotFoundError
from storage.models.classifier import Classifier, load_classifier
from storage.models.store import ModelStore
from storage.records import Pointer

# A new champion answers within a second: it is looked for so often, and loaded in a tenth.
PERIOD_S = 0.25
# A version that was refused may be mended, or its disk come back.
RETRY_S = 5

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Champion:
    """A model in use.

    Args:
        dataset: The name under which it is kept.
        pointer: What named it.
        classifier: Answers for it.
    """

    dataset: str
    pointer: Pointer
    classifier: Classifier


def load_champion(store: ModelStore) -> Champion:
    """Load the champion of a store; each byte is checked, and its golden batch tried.

    Args:
        store: Where it is kept.

    Raises:
        VersionNotFoundError: If there is none yet.
        DamagedModelError: If it may not be put to use; the message names the way out.
    """
    while pointer := store.champion():
        try:
            classifier = load_classifier(store.version(pointer.version), pointer.digest)
            return Champion(store.name, pointer, classifier)
        except DamagedModelError as error:
            # After many swaps in a moment the version may have been removed.
            if store.champion() == pointer:
                raise DamagedModelError(
                    f"{error}; `digits rollback --dataset {store.name}` takes another one"
                ) from error
    raise VersionNotFoundError(
        f"expected a champion of {store.name}, found none yet; train one: digits retrain"
    )


class Follower:
    """Keeps the champion loaded, whichever it is: promotions and rollbacks are followed.

    A champion that may not be put to use is refused, and the last good one stays.

    Args:
        store: Where the champion is kept.

    Raises:
        VersionNotFoundError: If there is none yet.
        DamagedModelError: If it may not be put to use.
    """

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._ended = threading.Event()
        self._tried: Pointer | None = None
        self._retry_at = 0.0
        self.champion = load_champion(store)
        self.refused: str | None = None
        """Why the model that the pointer names is not the one that answers; None if it is."""

    def start(self) -> None:
        """Follow the pointer from now on, in a thread."""
        self._ended.clear()
        threading.Thread(target=self._follow, name="follow", daemon=True).start()

    def stop(self) -> None:
        """Follow it no longer."""
        self._ended.set()

    def look(self) -> None:
        """See where the pointer points; whoever answers meanwhile is not disturbed."""
        try:
            pointer = self._store.champion()
            if pointer == self.champion.pointer:
                self.refused = None
            elif pointer != self._tried or time.monotonic() >= self._retry_at:
                self._tried = pointer
                self._load()
        except Exception as error:  # noqa: BLE001 - whatever it is, the last good model answers
            self._retry_at = time.monotonic() + RETRY_S
            said = str(error) if isinstance(error, ModelStoreError) else repr(error)
            if said != self.refused:
                version = self.champion.pointer.version
                log.warning("%s keeps answering: %s", version, said)
            self.refused = said

    def _load(self) -> None:
        loaded = load_champion(self._store)
        before, self.champion, self.refused = self.champion, loaded, None
        log.info("%s answers instead of %s", loaded.pointer.version, before.pointer.version)

    def _follow(self) -> None:
        while not self._ended.wait(PERIOD_S):
            self.look()
