import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

from tasks.data.dataset import Dataset
from tasks.load import load
from tasks.preprocess import Examples, preprocess
from tasks.training.validation import in_validation, split


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


def test_both_parts_have_the_images_in_order_and_none_is_in_both(examples: Examples) -> None:
    training, validation = split(examples)
    assert validation is not None
    assert (len(training), len(validation)) == (3657, 343)
    assert np.bincount(validation.labels).tolist() == [40, 40, 32, 34, 42, 21, 39, 29, 33, 33]
    held_out = in_validation(examples.pixels)
    np.testing.assert_array_equal(validation.pixels, examples.pixels[held_out])
    np.testing.assert_array_equal(training.pixels, examples.pixels[~held_out])
    np.testing.assert_array_equal(training.labels, examples.labels[~held_out])
    assert not in_validation(training.pixels).any()


@pytest.mark.slow
def test_of_mnist_4949_images_are_for_validation(mnist_folder: Path) -> None:
    training, validation = split(preprocess.fn(load.fn(str(mnist_folder)))[0])
    assert validation is not None
    assert (len(training), len(validation)) == (55051, 4949)
    counts = [523, 585, 447, 509, 496, 461, 476, 470, 471, 511]
    assert np.bincount(validation.labels).tolist() == counts


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


def test_of_too_few_images_all_are_trained_on(
    examples: Examples, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="digits")
    rows = np.arange(4000)[np.arange(4000) % 400 < 60]
    training, validation = split(examples[rows])
    assert (len(training), validation) == (600, None)
    assert caplog.messages == [
        "no validation, all 600 images are trained on: expected 10 or more of each digit in that"
        " part, found 3 of 2"
    ]
