import shutil
from pathlib import Path

import numpy as np
import pytest

from storage.models.backends import LocalFolder
from storage.models.classifier import Classifier
from storage.models.store import ModelStore
from storage.models.unsure import UnsureRule
from storage.models.versions import read_version
from tasks.stage import stage
from tasks.training.unsure import CLEAN_UNSURE


@pytest.fixture(scope="module")
def classifier(mlp, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """Of a version that was staged with its rule."""
    store = ModelStore(LocalFolder(tmp_path_factory.mktemp("models")), "mine")
    candidate = stage.fn(store, "run", mlp.model, mlp.dataset, {})
    return Classifier(read_version(store.candidate("run"), candidate.digest))


def test_noise_is_unsure_and_few_digits_are(classifier: Classifier, mlp) -> None:
    assert CLEAN_UNSURE == 0.02
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    assert classifier.unsure(noise).all()
    digits = mlp.dataset.test_images
    assert classifier.unsure(digits).mean() < 0.06
    one_by_one = [classifier.unsure(image[None])[0] for image in digits[:20]]
    assert one_by_one == classifier.unsure(digits[:20]).tolist()


def test_a_probability_that_is_not_a_number_is_unsure() -> None:
    rule = UnsureRule(np.zeros((10, 784), np.float32), np.zeros((10, 25, 784), np.float32), 1.0)
    scores = rule.scores(np.zeros((1, 28, 28), np.uint8), np.full((1, 10), np.nan, np.float32))
    assert not (scores <= 1).any()


def test_a_version_of_an_older_release_is_never_unsure(stored, tmp_path: Path) -> None:
    store = ModelStore(LocalFolder(tmp_path), "mine")

    def write(folder: Path) -> None:
        for name in ("model.tflite", "golden.npz"):
            shutil.copy(stored["good"].folder / name, folder)

    digest = store.stage("old", write, {})
    old = Classifier(read_version(store.candidate("old"), digest))
    assert not old.unsure(np.full((3, 28, 28), 255, np.uint8)).any()
    assert old.golden_difference() <= 1e-4


def test_the_golden_batch_checks_the_rule(stored, tmp_path: Path) -> None:
    store = ModelStore(LocalFolder(tmp_path), "mine")

    def write(folder: Path) -> None:
        for name in ("model.tflite", "golden.npz"):
            shutil.copy(stored["good"].folder / name, folder)
        with np.load(stored["good"].folder / "unsure.npz") as rule:
            np.savez(folder / "unsure.npz", **{**rule, "limit": rule["limit"] * 1.01})

    digest = store.stage("other", write, {})
    other = Classifier(read_version(store.candidate("other"), digest))
    assert other.golden_difference() > 1e-4
