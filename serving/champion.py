"""The champion, ready to answer."""

from pathlib import Path

from storage.classifier import Classifier, load_classifier
from storage.errors import DamagedModelError, VersionNotFoundError
from storage.model_store import ModelStore


def load_champion(models: Path, dataset: str) -> Classifier:
    """Load the champion of a dataset; each byte is checked, and its golden batch tried.

    Args:
        models: Folder of all datasets' models.
        dataset: The name under which it is kept.

    Raises:
        VersionNotFoundError: If there is none yet.
        DamagedModelError: If it may not be put to use; the message names the way out.
    """
    store = ModelStore(models, dataset)
    while pointer := store.champion():
        try:
            return load_classifier(store.version(pointer.version), pointer.digest)
        except DamagedModelError as error:
            # After many swaps in a moment the version may have been removed.
            if store.champion() == pointer:
                raise DamagedModelError(
                    f"{error}; `digits rollback --dataset {dataset}` takes another one"
                ) from error
    raise VersionNotFoundError(
        f"expected a champion of {dataset}, found none yet; train one: digits retrain"
    )
