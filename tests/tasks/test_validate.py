from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.errors import InvalidDataError
from tasks.load import Dataset, digest
from tasks.validate import validate


@pytest.mark.parametrize("labels", [np.uint8, np.int64])
def test_good_data_passes_and_is_left_as_it_is(few: Dataset, labels: type) -> None:
    dataset = replace(few, train_labels=few.train_labels.astype(labels))
    validate.fn(dataset)
    arrays = (few.train_images, few.train_labels, few.test_images, few.test_labels)
    assert digest(*arrays) == few.digest


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    ("array", "damage", "said"),
    [
        ("images", lambda a: a.astype(np.float32), "uint8 of shape .* received float32"),
        ("images", lambda a: a.astype(np.int16), "uint8 of shape .* received int16"),
        ("images", lambda a: a.reshape(-1, 784), r"\(n, 28, 28\), received .* \(\d+, 784\)"),
        ("images", lambda a: a[:, :27], r"\(n, 28, 28\), received .* \(\d+, 27, 28\)"),
        ("images", lambda a: a[:-1], r"as many labels as images, received \d+ images and \d+"),
        ("labels", lambda a: a[1:], r"as many labels as images, received \d+ images and \d+"),
        ("labels", lambda a: a.astype(np.float32), "integers of shape .* received float32"),
        ("labels", lambda a: np.eye(10, dtype=np.uint8)[a], r"\(n,\), received .* \(\d+, 10\)"),
        ("labels", lambda a: np.where(a == 9, 10, a), "0 to 9, received values from 0 to 10"),
        ("labels", lambda a: a.astype(np.int8) - 1, "0 to 9, received values from -1 to 8"),
    ],
)
def test_data_that_the_network_must_not_see_is_refused_with_expected_and_received(
    few: Dataset, part: str, array: str, damage: Callable[[Any], Any], said: str
) -> None:
    name = f"{part}_{array}"
    damaged = replace(few, **{name: damage(getattr(few, name))})
    with pytest.raises(InvalidDataError, match=f"^{part}.*expected .*{said}") as refused:
        validate.fn(damaged)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_without_images_is_refused(few: Dataset, part: str) -> None:
    images, labels = f"{part}_images", f"{part}_labels"
    empty = replace(few, **{images: getattr(few, images)[:0], labels: getattr(few, labels)[:0]})
    with pytest.raises(InvalidDataError, match=f"^{part}.*expected at least one image, received"):
        validate.fn(empty)
