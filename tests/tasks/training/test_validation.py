import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.recipe import Recipe
from tasks.data.dataset import Dataset
from tasks.load import load
from tasks.preprocess import Examples, preprocess
from tasks.scoring.statistics import loss_and_confusion
from tasks.training.augment import make_augmentation
from tasks.training.validation import hold_out, in_validation, measured


@pytest.fixture(scope="module")
def examples(mnist_5k: Dataset) -> Examples:
    """The 4,000 training examples of mnist-5k."""
    return preprocess.fn(mnist_5k)[0]


def test_an_image_is_in_the_validation_part_by_the_digest_of_its_pixels(
    examples: Examples,
) -> None:
    held_out = in_validation(examples.pixels)
    for image, held in zip(examples.pixels[:500], held_out[:500], strict=True):
        assert held == (int(hashlib.sha256(image.tobytes()).hexdigest()[:16], 16) < 2**64 // 12)
    assert np.flatnonzero(held_out)[:6].tolist() == [28, 38, 42, 46, 61, 66]
    assert held_out.sum() == 343
    counts = [40, 40, 32, 34, 42, 21, 39, 29, 33, 33]
    assert np.bincount(examples.labels[held_out]).tolist() == counts


@pytest.mark.slow
def test_of_mnist_4949_images_are_for_validation(mnist_folder: Path) -> None:
    examples, _ = preprocess.fn(load.fn(str(mnist_folder)))
    held_out = in_validation(examples.pixels)
    assert (len(held_out), held_out.sum()) == (60000, 4949)
    counts = [523, 585, 447, 509, 496, 461, 476, 470, 471, 511]
    assert np.bincount(examples.labels[held_out]).tolist() == counts


def test_the_part_stays_when_the_data_grows_and_duplicates_stay_together(
    examples: Examples,
) -> None:
    order = np.random.default_rng(0).permutation(4000)
    held_out = in_validation(examples.pixels)
    np.testing.assert_array_equal(in_validation(examples.pixels[order]), held_out[order])
    np.testing.assert_array_equal(in_validation(examples.pixels[:900]), held_out[:900])
    twice = np.concatenate([examples.pixels, examples.pixels])
    np.testing.assert_array_equal(in_validation(twice), np.tile(held_out, 2))


def test_corrections_are_trained_on_and_so_are_their_twins(examples: Examples) -> None:
    held_out = in_validation(examples.pixels)
    corrected = np.flatnonzero(held_out)[:5]
    with_corrections = np.concatenate([examples.pixels, examples.pixels[corrected]])
    found = in_validation(with_corrections, corrections=5)
    assert not found[4000:].any()
    assert not found[corrected].any()
    assert found.sum() == 338


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("mlp", None), ("cnn", None), ("a:b", None), ("convnet", 343), ("convnet-deep", 343)],
)
def test_only_the_convnets_hold_it_out(
    new_recipe: Callable[..., Recipe], examples: Examples, architecture: str, expected: int | None
) -> None:
    held_out = hold_out(examples, 0, new_recipe(architecture=architecture))
    assert (None if held_out is None else held_out.sum()) == expected


def test_of_too_few_images_all_are_trained_on(
    new_recipe: Callable[..., Recipe], examples: Examples, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="digits")
    few = examples[np.flatnonzero(np.arange(4000) % 400 < 60)]
    assert hold_out(few, 0, new_recipe(architecture="convnet")) is None
    assert caplog.messages == [
        "no validation, all 600 images are trained on: expected 10 or more of each digit in that"
        " part, found 3 of digit 2"
    ]


def test_the_disturbed_copies_are_five_and_always_the_same(mlp, examples: Examples) -> None:
    import tensorflow as tf

    validation = examples[in_validation(examples.pixels)][:150]  # 750 of all copies: two batches
    found = measured(mlp.model, validation)
    assert found == measured(mlp.model, validation)
    columns = found.columns()
    predicted = mlp.model.predict(validation.inputs, verbose=0)
    evaluation = loss_and_confusion(predicted, validation.labels)
    assert columns["validation_total"] == 150
    assert columns["validation_accuracy"] == evaluation.correct / 150
    assert columns["validation_loss"] == pytest.approx(evaluation.loss)

    copies = validation[np.tile(np.arange(150), 10)[:1000]]
    augment = make_augmentation(0)
    disturbed = [
        augment(
            copies.inputs[start : start + 500], copies.targets[:500], tf.constant(step, "int64")
        )
        for step, start in enumerate((0, 500))
    ]
    predicted = mlp.model.predict(np.concatenate([inputs for inputs, _ in disturbed])[:750])
    expected = loss_and_confusion(predicted, copies.labels[:750]).loss
    assert columns["validation_disturbed_loss"] == pytest.approx(expected)
    assert expected > evaluation.loss
