import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import ModelStoreError
from storage.models.backends import LocalFolder
from storage.models.classifier import Classifier
from storage.models.store import ModelStore
from storage.models.versions import read_version
from storage.provenance import Provenance
from tasks.corrections import Corrected
from tasks.stage import GOLDEN_IMAGES, Candidate, origin_of, stage, weights_digest
from tasks.validate import validate

PROVENANCE = Provenance("ab" * 20, False, {"python": "3.11"}, "here", {}, None)


@pytest.fixture(scope="module")
def staged(trained, tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, Path]:
    """The candidate of each trained network, and its folder."""
    check = validate.fn(trained.dataset, None, 0.0)
    corrected = Corrected(trained.dataset)
    origin = origin_of(trained.recipe, PROVENANCE, corrected, check, trained.evaluation)
    store = ModelStore(LocalFolder(tmp_path_factory.mktemp("models")), "mine")
    candidate = stage.fn(store, "run", trained.model, trained.dataset, origin)
    return candidate, store.candidate("run")


def answers_of_tflite(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities, from the runtime that serves the model: no TensorFlow, raw pixels."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    (pixels,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert pixels["dtype"] == np.uint8
    interpreter.resize_tensor_input(pixels["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(pixels["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(output["index"])


def test_the_saved_network_has_the_same_weights_and_gives_the_same_count(trained, staged) -> None:
    import keras

    candidate, folder = staged
    saved = keras.models.load_model(folder / "model.keras")
    answers = saved.predict(trained.test.inputs, verbose=0).argmax(axis=1)
    assert (answers == trained.dataset.test_labels).sum() == trained.evaluation.correct
    assert candidate.columns() == {"weights_digest": weights_digest(saved)}


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_model_for_serving_takes_raw_pixels_and_gives_the_same_answers(
    trained, staged, batch: int
) -> None:
    _, folder = staged
    images = trained.dataset.test_images[-batch:]
    probabilities = answers_of_tflite(folder / "model.tflite", images)
    expected = trained.model.predict(trained.test.inputs[-batch:], verbose=0)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    if batch == 1000:
        right = probabilities.argmax(axis=1) == trained.dataset.test_labels
        assert right.sum() == trained.evaluation.correct


def test_the_golden_batch_is_training_images_of_every_digit_with_what_keras_says(
    trained, staged
) -> None:
    _, folder = staged
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    assert GOLDEN_IMAGES == 64
    assert (images.dtype, images.shape) == (np.uint8, (64, 28, 28))
    training = zip(trained.dataset.train_images, trained.dataset.train_labels, strict=True)
    label_of = {image.tobytes(): int(label) for image, label in training}
    assert {label_of[image.tobytes()] for image in images} == set(range(10))
    inputs = images.reshape(-1, 784).astype(np.float32) / 255
    np.testing.assert_allclose(probabilities, trained.model.predict(inputs, verbose=0), atol=1e-5)
    answers = answers_of_tflite(folder / "model.tflite", images)
    assert np.abs(answers - probabilities).max() <= 1e-4


def test_the_digest_that_staging_gives_is_that_of_the_manifest_and_opens_the_candidate(
    trained, staged
) -> None:
    candidate, folder = staged
    manifest = (folder / "manifest.json").read_bytes()
    assert candidate.digest == hashlib.sha256(manifest).hexdigest()
    classifier = Classifier(read_version(folder, candidate.digest))
    assert classifier.golden_difference() <= 1e-4


def test_the_manifest_lists_the_files_and_the_origin_of_the_model(trained, staged) -> None:
    candidate, folder = staged
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert set(manifest["files"]) == {"model.keras", "model.tflite", "golden.npz", "unsure.npz"}
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
    for name, told in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert told == {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    assert manifest["version"] == candidate.run_id
    assert manifest["weights_digest"] == weights_digest(trained.model)
    assert manifest["data_digest"] == trained.dataset.digest
    found = validate.fn(trained.dataset, None, 0.0)
    assert manifest["test_digest"] == trained.dataset.test_digest
    assert manifest["training_data"] == found.statistics
    assert manifest["test_correct"] == trained.evaluation.correct
    assert manifest["test_total"] == 1000
    columns = trained.recipe.columns()
    assert {name: manifest[name] for name in columns} == columns
    assert {name: manifest[name] for name in PROVENANCE.columns()} == PROVENANCE.columns()
    assert "corrections_digest" not in manifest


def test_the_origin_names_the_corrections_where_the_recipe_asks_for_them(trained) -> None:
    check = validate.fn(trained.dataset, None, 0.0)
    corrected = Corrected(trained.dataset, used=3, dropped=0, digest="ef" * 32)
    origin = origin_of(trained.recipe, PROVENANCE, corrected, check, trained.evaluation)
    assert origin["corrections_digest"] == "ef" * 32


def test_a_network_that_cannot_be_stored_is_an_error_of_one_line(trained, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = ModelStore(LocalFolder(tmp_path / "file"), "mine")
    with pytest.raises(ModelStoreError) as refused:
        stage.fn(store, "run", trained.model, trained.dataset, {})
    assert "\n" not in str(refused.value)


def test_the_digest_of_weights_changes_with_one_weight(trained) -> None:
    import keras

    other = keras.models.clone_model(trained.model)
    weights = trained.model.get_weights()
    other.set_weights(weights)
    assert weights_digest(other) == weights_digest(trained.model)
    weights[-1][-1] = np.nextafter(weights[-1][-1], np.float32(1))
    other.set_weights(weights)
    assert weights_digest(other) != weights_digest(trained.model)
