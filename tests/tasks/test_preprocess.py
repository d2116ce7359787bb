import numpy as np

from tasks.data.dataset import Dataset
from tasks.preprocess import preprocess


def test_inputs_are_the_pixels_divided_by_255_image_by_image(few: Dataset) -> None:
    before = few.train_images.copy()
    for examples, images in zip(
        preprocess.fn(few), (few.train_images, few.test_images), strict=True
    ):
        assert examples.inputs.dtype == np.float32
        assert examples.inputs.shape == (len(images), 784)
        assert examples.inputs.min() == 0
        assert examples.inputs.max() == 1
        expected = np.array([[pixel / 255 for pixel in image.ravel()] for image in images[:20]])
        np.testing.assert_array_equal(examples.inputs[:20], expected.astype(np.float32))
        back = np.rint(examples.inputs * 255).astype(np.uint8).reshape(-1, 28, 28)
        np.testing.assert_array_equal(back, images)
    np.testing.assert_array_equal(few.train_images, before)


def test_targets_are_one_hot_label_by_label(few: Dataset) -> None:
    for examples, labels in zip(
        preprocess.fn(few), (few.train_labels, few.test_labels), strict=True
    ):
        assert examples.targets.dtype == np.float32
        assert examples.targets.shape == (len(labels), 10)
        for target, label in zip(examples.targets, labels, strict=True):
            assert target.tolist() == [1.0 if digit == label else 0.0 for digit in range(10)]
