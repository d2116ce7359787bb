"""Augmentation: seeded, in the graph, and still digits."""

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from tasks.data.dataset import Dataset
from tasks.preprocess import Examples, preprocess
from tasks.training.augment import Augment, make_augmentation

BATCH = 64


@pytest.fixture(scope="module")
def examples(few: Dataset) -> Examples:
    return preprocess.fn(few)[0][:BATCH]


@pytest.fixture(scope="module")
def augment() -> Augment:
    return make_augmentation(3)


def augmented(augment: Augment, examples: Examples, step: int) -> NDArray[np.float32]:
    inputs, _ = augment(examples.inputs, examples.targets, tf.constant(step, tf.int64))
    made: NDArray[np.float32] = inputs.numpy()
    return made


def test_seed_and_step_determine_the_pixels(augment: Augment, examples: Examples) -> None:
    made = augmented(augment, examples, 5)
    np.testing.assert_array_equal(augmented(augment, examples, 5), made)
    np.testing.assert_array_equal(augmented(make_augmentation(3), examples, 5), made)
    assert not np.isclose(augmented(augment, examples, 6), made).all(axis=1).any()
    assert not np.isclose(augmented(make_augmentation(4), examples, 5), made).all(axis=1).any()


def test_equal_images_of_a_batch_become_different(augment: Augment, examples: Examples) -> None:
    made = augmented(augment, examples[np.zeros(BATCH, np.int64)], 0)
    assert len(np.unique(made.round(3), axis=0)) == BATCH


def test_pixels_stay_in_range_and_targets_as_they_are(augment: Augment, examples: Examples) -> None:
    inputs, targets = augment(examples.inputs, examples.targets, tf.constant(0, tf.int64))
    assert inputs.dtype == tf.float32
    assert inputs.shape == (BATCH, 784)
    assert 0 <= inputs.numpy().min() <= inputs.numpy().max() <= 1
    np.testing.assert_array_equal(targets, examples.targets)


def test_digits_stay_near_where_they_were(augment: Augment, examples: Examples) -> None:
    alike = [
        np.corrcoef(before, after)[0, 1]
        for step in range(10)
        for before, after in zip(examples.inputs, augmented(augment, examples, step), strict=True)
    ]
    assert 0.4 < np.mean(alike) < 0.8
    ink = augmented(augment, examples, 0).reshape(-1, 28, 28).mean(axis=0)
    assert ink[10:18, 10:18].mean() > 10 * ink[:, :2].mean() > 0


def test_a_graph_loops_over_batches_of_any_size(augment: Augment, examples: Examples) -> None:
    @tf.function(autograph=False)
    def last_inputs(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        def step(number: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return number + 1, augment(inputs, targets, number)[0]

        begin = (tf.constant(0, tf.int64), inputs)
        return tf.while_loop(lambda number, _: number < 6, step, begin)[1]

    for count in (BATCH, 1):
        some = examples[:count]
        made = last_inputs(some.inputs, some.targets)
        np.testing.assert_array_equal(made, augmented(augment, some, 5))
