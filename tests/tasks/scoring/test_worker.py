import io
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from pydantic_core import to_json

from storage.models.classifier import load_classifier
from storage.records import Evaluation
from storage.settings import PROJECT
from tasks.data.dataset import Dataset
from tasks.scoring.transformations import transform
from tasks.scoring.values import Counts, NotScored, Score
from tasks.scoring.worker import ANSWER, REQUEST, Answer, Asked, StoredModel, score_models

FORBIDDEN = {"tensorflow", "keras", "prefect", "sqlalchemy"}


def packed(dataset: Dataset) -> bytes:
    test_set = io.BytesIO()
    np.savez(test_set, **arrays(dataset))
    return test_set.getvalue()


def arrays(dataset: Dataset) -> dict[str, np.ndarray]:
    return {
        "images": dataset.test_images,
        "labels": dataset.test_labels,
        "field_images": dataset.field_images,
        "field_labels": dataset.field_labels,
        "field_actors": dataset.field_actors,
        "training_images": dataset.train_images[:100],
        "training_labels": dataset.train_labels[:100],
        "not_digits": dataset.not_digits,
    }


def model_of(made) -> StoredModel:
    return StoredModel(made.folder, made.candidate.digest)


def test_the_process_prints_json_and_imports_neither_tensorflow_nor_keras_nor_prefect(
    challenge, mnist_5k: Dataset, stored
) -> None:
    models = {"challenger": model_of(challenge("good"))}
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-P",
            "-m",
            "tasks.scoring.worker",
            REQUEST.dump_json(models),
        ],
        check=True,
        cwd=PROJECT,
        input=packed(mnist_5k),
        capture_output=True,
    )
    answer = ANSWER.validate_json(done.stdout)
    assert answer.scores["challenger"].evaluation.confusion == stored["good"].evaluation.confusion
    modules = {line.rpartition(b"|")[2].strip().decode() for line in done.stderr.splitlines()}
    imported = {module.partition(".")[0] for module in modules}
    assert {"numpy", "ai_edge_litert", "storage", "tasks"} <= imported
    assert not imported & FORBIDDEN


def test_each_model_has_its_own_score_or_its_own_error(
    challenge, mnist_5k: Dataset, stored
) -> None:
    runs = {"challenger": challenge("good"), "champion": challenge("rough")}
    models = {name: model_of(run) for name, run in runs.items()}
    whole = score_models(models, Asked(**arrays(mnist_5k)))
    right = {
        name: stored[network].answers == mnist_5k.test_labels
        for name, network in (("challenger", "good"), ("champion", "rough"))
    }
    assert whole.pairs.only_challenger - whole.pairs.only_champion == (
        right["challenger"].sum() - right["champion"].sum()
    )
    for name, model in models.items():
        wrong = {**models, name: StoredModel(model.folder, "00" * 32)}
        partly = score_models(wrong, Asked(**arrays(mnist_5k)))
        assert "expected the SHA-256 000000000000..." in partly.scores[name].reason
        (other,) = models.keys() - {name}
        assert partly.scores[other] == whole.scores[other]
        assert partly.pairs is None


def test_challenger_and_champion_are_asked_about_transformed_images_and_the_best_is_not(
    challenge, mnist_5k: Dataset
) -> None:
    runs = {"challenger": challenge("good"), "champion": challenge("poor")}
    runs["best"] = runs["challenger"]
    found = score_models(
        {n: model_of(run) for n, run in runs.items()}, Asked(**arrays(mnist_5k))
    ).scores
    assert found["best"].robustness is None
    for name in ("challenger", "champion"):
        classifier = load_classifier(runs[name].folder, runs[name].candidate.digest)
        for way, images in transform(mnist_5k.test_images).items():
            right = classifier.probabilities(images).argmax(axis=1) == mnist_5k.test_labels
            assert found[name].robustness[way] == Counts(right.sum(), 1000)
    assert found["challenger"].robustness != found["champion"].robustness


def test_an_answer_to_a_transformed_image_that_is_not_finite_leaves_no_counts(
    challenge, mnist_5k: Dataset
) -> None:
    import keras

    # Without a pixel above 110, as when the ink is faint, it divides 0 by 0.
    pixels = keras.Input((28, 28), dtype="uint8")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(pixels))
    dark = keras.ops.relu(keras.ops.max(flat, axis=1, keepdims=True) - 110)
    answers = keras.layers.Dense(10, "softmax")(flat) * (dark / dark)
    run = challenge("rough")
    run.store.discard(run.id)

    def write(folder) -> None:
        model = keras.Model(pixels, answers)
        model.export(folder / "model.tflite", format="litert", verbose=False)
        images = mnist_5k.test_images[:2]
        np.savez(folder / "golden.npz", images=images, probabilities=model.predict(images))

    model = StoredModel(run.folder, run.store.stage(run.id, write, {}))
    (score,) = score_models({"challenger": model}, Asked(**arrays(mnist_5k))).scores.values()
    assert math.isfinite(score.evaluation.loss)
    assert score.robustness is None


@pytest.mark.parametrize("damage", [0.5, np.nan])
def test_a_golden_batch_that_is_off_is_a_number_of_the_challengers_and_an_error_of_the_champions(
    challenge, mnist_5k: Dataset, stored, damage: float
) -> None:
    run = challenge("good")
    run.store.discard(run.id)
    golden = dict(np.load(stored["good"].folder / "golden.npz"))
    golden["probabilities"][3, 3] += np.float32(damage)

    def write(folder) -> None:
        (folder / "model.tflite").write_bytes((stored["good"].folder / "model.tflite").read_bytes())
        np.savez(folder / "golden.npz", **golden)

    model = StoredModel(run.folder, run.store.stage(run.id, write, {}))
    found = score_models({"challenger": model, "champion": model}, Asked(**arrays(mnist_5k))).scores
    difference = found["challenger"].golden_difference
    assert difference == pytest.approx(damage, abs=1e-5, nan_ok=True)
    assert "expected its golden batch within 0.0001" in found["champion"].reason


def test_a_champion_that_cannot_answer_has_its_own_error(
    challenge, mnist_5k: Dataset, stored
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
    models = {"challenger": model_of(sound), "champion": StoredModel(run.folder, digest)}
    found = score_models(models, Asked(**arrays(mnist_5k))).scores
    assert "expected a model that answers" in found["champion"].reason
    assert found["challenger"].evaluation.confusion == stored["good"].evaluation.confusion


def test_the_answer_survives_json_with_numbers_that_are_not_finite() -> None:
    evaluation = Evaluation(math.inf, ((1, 2), (3, 4)))
    challenger = Score(evaluation, math.inf, robustness={"moved": Counts(3, 4)})
    answer = Answer({"challenger": challenger, "champion": NotScored("no")})
    assert ANSWER.validate_json(to_json(answer, inf_nan_mode="constants")) == answer
    nan = Answer({"challenger": Score(Evaluation(math.nan, ()), math.nan)})
    read = ANSWER.validate_json(to_json(nan, inf_nan_mode="constants"))
    assert math.isnan(read.scores["challenger"].evaluation.loss)
    assert math.isnan(read.scores["challenger"].golden_difference)
