"""Pictures of no digit, made from the digits of a batch."""

import numpy as np
import tensorflow as tf

from tasks.data.dataset import Dataset
from tasks.preprocess import Examples, preprocess
from tasks.training.augment import make_augmentation
from tasks.training.no_digits import with_no_digits

KEY = tf.constant([1, 2], tf.int64)


def replaced(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    images = tf.reshape(examples.inputs, [-1, 28, 28])
    made, targets = with_no_digits(images, examples.targets, KEY)
    return made.numpy(), targets.numpy()


def test_one_image_in_sixteen_becomes_no_digit_with_even_targets(few: Dataset) -> None:
    examples = preprocess.fn(few)[0][:320]
    made, targets = replaced(examples)
    np.testing.assert_allclose(targets[:20], 0.1)
    np.testing.assert_array_equal(targets[20:], examples.targets[20:])
    np.testing.assert_array_equal(made[20:].reshape(-1, 784), examples.inputs[20:])
    # Unlike any digit of the batch, and not blank.
    differences = np.abs(made[:20, None] - examples.inputs.reshape(1, -1, 28, 28))
    assert (differences.sum(axis=(2, 3)).min(axis=1) > 20).all()
    assert (made[:20].sum(axis=(1, 2)) > 20).all()


def test_they_are_made_of_digits_that_are_none_when_mirrored(few: Dataset) -> None:
    examples = preprocess.fn(few)[0]
    same = examples[np.isin(examples.labels, (0, 1, 8))]
    made, targets = replaced(same)
    np.testing.assert_array_equal(made.reshape(-1, 784), same.inputs)
    np.testing.assert_array_equal(targets, same.targets)


def test_the_augmentation_makes_them_on_request(few: Dataset) -> None:
    examples = preprocess.fn(few)[0][:64]
    step = tf.constant(0, tf.int64)
    inputs, targets = make_augmentation(3, no_digits=True)(examples.inputs, examples.targets, step)
    digits, _ = make_augmentation(3)(examples.inputs, examples.targets, step)
    assert (targets.numpy().max(axis=1) < 0.5).sum() == 4
    np.testing.assert_array_equal(inputs[4:], digits[4:])
