import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from storage.settings import PROJECT
from tasks.data.dataset import Dataset
from tasks.record import RunInProgress
from tasks.scoring.worker import score

FORBIDDEN = {"tensorflow", "keras", "prefect", "sqlalchemy"}


def packed(dataset: Dataset) -> bytes:
    test_set = io.BytesIO()
    np.savez(test_set, images=dataset.test_images, labels=dataset.test_labels)
    return test_set.getvalue()


def test_the_process_prints_json_and_imports_neither_tensorflow_nor_keras_nor_prefect(
    challenge: Callable[..., RunInProgress], mnist_5k: Dataset, stored
) -> None:
    run = challenge("good")
    models = {"challenger": (str(run.store.candidate(run.id)), run.candidate_digest)}
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-P",
            "-m",
            "tasks.scoring.worker",
            json.dumps(models),
        ],
        check=True,
        cwd=PROJECT,
        input=packed(mnist_5k),
        capture_output=True,
    )
    found = json.loads(done.stdout)["challenger"]
    assert found["confusion"] == [list(row) for row in stored["good"].evaluation.confusion]
    modules = {line.rpartition(b"|")[2].strip().decode() for line in done.stderr.splitlines()}
    imported = {module.partition(".")[0] for module in modules}
    assert {"numpy", "ai_edge_litert", "storage", "tasks"} <= imported
    assert not imported & FORBIDDEN


def test_each_model_has_its_own_score_or_its_own_error(
    challenge: Callable[..., RunInProgress], mnist_5k: Dataset, stored
) -> None:
    runs = {"challenger": challenge("good"), "champion": challenge("rough")}
    models = {
        name: (str(run.store.candidate(run.id)), run.candidate_digest) for name, run in runs.items()
    }
    arrays = mnist_5k.test_images, mnist_5k.test_labels
    whole = score(models, *arrays)
    right = {
        name: stored[network].answers == mnist_5k.test_labels
        for name, network in (("challenger", "good"), ("champion", "rough"))
    }
    assert whole["only_challenger"] - whole["only_champion"] == (
        right["challenger"].sum() - right["champion"].sum()
    )
    for name in models:
        wrong = {**models, name: (models[name][0], "00" * 32)}
        partly = score(wrong, *arrays)
        assert "expected the SHA-256 000000000000..." in partly[name]["error"]
        (other,) = models.keys() - {name}
        assert partly[other] == whole[other]
        assert "only_challenger" not in partly
        assert "only_champion" not in partly


@pytest.mark.parametrize("damage", [0.5, np.nan])
def test_a_golden_batch_that_is_off_is_a_number_of_the_challengers_and_an_error_of_the_champions(
    challenge: Callable[..., RunInProgress], mnist_5k: Dataset, stored, damage: float
) -> None:
    run = challenge("good")
    run.store.discard(run.id)
    golden = dict(np.load(stored["good"].folder / "golden.npz"))
    golden["probabilities"][3, 3] += np.float32(damage)

    def write(folder) -> None:
        (folder / "model.tflite").write_bytes((stored["good"].folder / "model.tflite").read_bytes())
        np.savez(folder / "golden.npz", **golden)

    digest = run.store.stage(run.id, write, {})
    model = str(run.store.candidate(run.id)), digest
    found = score(
        {"challenger": model, "champion": model}, mnist_5k.test_images, mnist_5k.test_labels
    )
    difference = found["challenger"]["golden_difference"]
    assert difference == pytest.approx(damage, abs=1e-5, nan_ok=True)
    assert "expected its golden batch within 0.0001" in found["champion"]["error"]


def test_a_champion_that_cannot_answer_is_an_error_of_its_own(
    challenge: Callable[..., RunInProgress], mnist_5k: Dataset, stored
) -> None:
    import keras

    # Of images of another size.
    other = keras.Sequential(
        [keras.Input((20, 30), dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    sound = challenge("good")
    run = challenge("rough")
    run.store.discard(run.id)

    def write(folder) -> None:
        other.export(folder / "model.tflite", format="litert", verbose=False)
        shutil.copy(stored["good"].folder / "golden.npz", folder)

    digest = run.store.stage(run.id, write, {})
    found = score(
        {
            "challenger": (str(sound.store.candidate(sound.id)), sound.candidate_digest),
            "champion": (str(run.store.candidate(run.id)), digest),
        },
        mnist_5k.test_images,
        mnist_5k.test_labels,
    )
    assert "expected a model that answers" in found["champion"]["error"]
    assert found["challenger"]["confusion"] == stored["good"].evaluation.confusion
