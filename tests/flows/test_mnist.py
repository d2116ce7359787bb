"""The seed recipe on all of MNIST, five seeds; minutes long."""

import sqlite3

import numpy as np
import pytest

from flows.retrain import retrain
from storage.model_store import ModelStore
from tasks.load import load

pytestmark = pytest.mark.usefixtures("prefect_server")


def count_right(path, images, labels):
    """Recount from the stored file alone."""
    if path.suffix == ".keras":
        import keras

        inputs = images.reshape(-1, 784).astype(np.float32) / 255
        answers = keras.models.load_model(path).predict(inputs, batch_size=500, verbose=0)
    else:
        from ai_edge_litert.interpreter import Interpreter

        model = Interpreter(str(path))
        (given,), (taken,) = model.get_input_details(), model.get_output_details()
        model.resize_tensor_input(given["index"], images.shape)
        model.allocate_tensors()
        model.set_tensor(given["index"], images)
        model.invoke()
        answers = model.get_tensor(taken["index"])
    return int((answers.argmax(axis=1) == labels).sum())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_seed_recipe_lands_where_it_should_with_five_seeds(tmp_path, monkeypatch, mnist_folder):
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path))
    store = ModelStore(tmp_path / "models", "mnist")
    data = load.fn(str(mnist_folder))

    for seed in range(5):
        promoted = retrain(
            dataset=str(mnist_folder), seed=seed, min_accuracy=0.97, return_state=True
        )
        champion = store.champion()
        rejected = retrain(
            dataset=str(mnist_folder), seed=seed, min_accuracy=0.99, return_state=True
        )

        assert (promoted.name, rejected.name) == ("Promoted", "Rejected"), seed
        assert champion.generation == seed + 1
        assert store.champion() == champion, "a rejected run leaves the champion as it was"
        connection = sqlite3.connect(tmp_path / "metrics.db")
        connection.row_factory = sqlite3.Row
        first, second = connection.execute(
            "SELECT * FROM runs WHERE seed = ? ORDER BY started_at", [seed]
        )
        connection.close()
        assert (first["status"], second["status"]) == ("promoted", "rejected")
        assert 0.975 <= first["test_accuracy"] <= 0.987, seed
        assert 0 < first["test_loss"] < 0.2
        assert first["weights_digest"] == second["weights_digest"], "same seed, same weights"
        assert first["test_total"] == 10_000
        folder = store.version(champion.version)
        for file in ("model.keras", "model.tflite"):
            right = count_right(folder / file, data.test_images, data.test_labels)
            assert right == first["test_correct"], file
        print(f"seed {seed}: {first['test_correct']} of 10,000, loss {first['test_loss']:.4f}")
