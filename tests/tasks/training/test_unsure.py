import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import DamagedModelError
from storage.models.backends import LocalFolder
from storage.models.classifier import Classifier
from storage.models.store import ModelStore
from storage.models.unsure import UnsureRule, read_rule
from storage.models.versions import read_version
from tasks.data.dataset import Dataset
from tasks.stage import stage
from tasks.training.unsure import CLEAN_UNSURE, fit_rule


@pytest.fixture(scope="module")
def classifier(mlp, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """Of a version that was staged with its rule."""
    store = ModelStore(LocalFolder(tmp_path_factory.mktemp("models")), "mine")
    candidate = stage.fn(store, "run", mlp.model, mlp.dataset, {})
    return Classifier(read_version(store.candidate("run"), candidate.digest))


def test_noise_is_unsure_and_few_digits_are(classifier: Classifier, mlp) -> None:
    assert CLEAN_UNSURE == 0.02
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    assert (classifier.unsure_scores(noise) > 1).all()
    digits = mlp.dataset.test_images
    assert (classifier.unsure_scores(digits) > 1).mean() < 0.06
    assert unsure(classifier, digits[:20]) == (classifier.unsure_scores(digits[:20]) > 1).tolist()


def test_a_probability_that_is_not_a_number_is_unsure() -> None:
    rule = UnsureRule(np.zeros((10, 8, 13, 225), np.float32), 1.0)
    scores = rule.scores(np.zeros((1, 28, 28), np.uint8), np.full((1, 10), np.nan, np.float32))
    assert not (scores <= 1).any()


def test_a_faint_scribble_is_as_unsure_as_a_dark_one(classifier: Classifier) -> None:
    scribble = np.zeros((28, 28), np.uint8)
    scribble[6:22:4, 4:24] = scribble[6:22, 4:24:5] = 240
    dark = classifier._rule.score(scribble, 3, 0.9)
    assert dark > 1
    assert classifier._rule.score(scribble // 4, 3, 0.9) == pytest.approx(dark)


def test_digits_of_few_or_equal_images_have_a_rule() -> None:
    images = np.zeros((60, 28, 28), np.uint8)
    images[:, 4:24, 12:16] = 255
    labels = np.arange(60, dtype=np.uint8) % 9
    rule = fit_rule(images, labels, lambda some: np.eye(10, dtype=np.float32)[[0] * len(some)])
    assert rule.score(images[0], 0, 1.0) < 1
    assert rule.score(images[0], 9, 1.0) > 1
    assert rule.score(images[0].T, 0, 1.0) > 1


def test_with_a_validation_part_the_limit_is_set_on_it(mnist_5k: Dataset) -> None:
    images, labels = mnist_5k.train_images[::4], mnist_5k.train_labels[::4]
    validation = np.arange(1000) % 12 == 5
    seen: list[NDArray[np.uint8]] = []

    def predict(some: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(some)
        return np.eye(10, dtype=np.float32)[[0] * len(some)]

    rule = fit_rule(images, labels, predict, validation)
    (asked,) = seen
    assert sorted(map(bytes, asked)) == sorted(map(bytes, images[validation]))
    scores = rule.scores(images[validation], predict(images[validation]))
    assert (scores > 1).mean() == pytest.approx(0.02, abs=0.01)
    others = np.where(validation[:, None, None], 255 - images, images)
    np.testing.assert_array_equal(fit_rule(others, labels, predict, validation).axes, rule.axes)


def test_with_a_validation_part_doubt_weighs_as_much_as_distance(mnist_5k: Dataset) -> None:
    images, labels = mnist_5k.train_images[::4], mnist_5k.train_labels[::4]
    validation = np.arange(1000) % 5 == 0

    def predict(some: NDArray[np.uint8]) -> NDArray[np.float32]:
        sure = np.linspace(1, 0.5, len(some), dtype=np.float32)
        return np.stack([sure, 1 - sure], axis=1) @ np.eye(2, 10, dtype=np.float32)

    rule = fit_rule(images, labels, predict, validation)
    apart = replace(rule, limit=1.0, doubt=0.0).scores(
        images[validation], predict(images[validation])
    )
    far = np.quantile(apart, 0.99)
    assert rule.doubt == pytest.approx(far / np.quantile(np.linspace(0, 0.5, 200), 0.99), rel=1e-5)
    assert fit_rule(images, labels, predict).doubt == 0.15
    assert read_rule(rule.content()).doubt == rule.doubt


def test_a_rule_of_an_earlier_release_has_the_doubt_that_it_was_fitted_with(stored) -> None:
    with np.load(stored["good"].folder / "unsure.npz") as rule:
        earlier = {"axes": rule["axes"], "limit": rule["limit"]}
    file = io.BytesIO()
    np.savez(file, **earlier)
    assert read_rule(file.getvalue()).doubt == 0.15


def test_a_version_of_an_older_release_is_never_unsure(stored, tmp_path: Path) -> None:
    store = ModelStore(LocalFolder(tmp_path), "mine")

    def write(folder: Path) -> None:
        for name in ("model.tflite", "golden.npz"):
            shutil.copy(stored["good"].folder / name, folder)

    digest = store.stage("old", write, {})
    old = Classifier(read_version(store.candidate("old"), digest))
    assert not any(unsure(old, np.full((3, 28, 28), 255, np.uint8)))
    assert old.golden_difference() <= 1e-4


def test_a_rule_of_another_form_is_named_and_not_used(stored, tmp_path: Path, caplog) -> None:
    other = with_rule(stored, tmp_path, means=np.zeros((10, 784)), limit=1.0)
    assert not any(unsure(other, np.full((3, 28, 28), 255, np.uint8)))
    assert other.golden_difference() <= 1e-4
    assert "version other: its unsure.npz has the form of another release" in caplog.text


def test_a_rule_of_another_shape_is_damaged(stored, tmp_path: Path) -> None:
    with pytest.raises(DamagedModelError, match=r"expected float32 of shape \(10, 8, 13, 225\)"):
        with_rule(stored, tmp_path, axes=np.zeros((10, 5, 13, 225), np.float32), limit=1.0)


def test_the_golden_batch_checks_the_rule(stored, tmp_path: Path) -> None:
    with np.load(stored["good"].folder / "unsure.npz") as rule:
        other = with_rule(stored, tmp_path, axes=rule["axes"], limit=rule["limit"] * 1.01)
    assert other.golden_difference() > 1e-4


def unsure(classifier: Classifier, images: NDArray[np.uint8]) -> list[bool]:
    """What is answered for images, one by one."""
    answers = classifier.probabilities(images)
    return [
        classifier.unsure(image, int(answer.argmax()), float(answer.max()))
        for image, answer in zip(images, answers, strict=True)
    ]


def with_rule(stored, tmp_path: Path, **arrays: Any) -> Classifier:
    """A version with such a rule."""
    store = ModelStore(LocalFolder(tmp_path), "mine")

    def write(folder: Path) -> None:
        for name in ("model.tflite", "golden.npz"):
            shutil.copy(stored["good"].folder / name, folder)
        np.savez(folder / "unsure.npz", **arrays)

    digest = store.stage("other", write, {})
    return Classifier(read_version(store.candidate("other"), digest))
