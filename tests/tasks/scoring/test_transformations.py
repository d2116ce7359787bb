import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.data.dataset import Dataset
from tasks.scoring.transformations import evenly, transform

NAMES = [
    "moved", "smaller", "turned", "slanted", "thin", "thick", "blurred", "faint", "noise",
]  # fmt: skip


@pytest.fixture(scope="module")
def digits(mnist_5k: Dataset) -> NDArray[np.uint8]:
    return mnist_5k.test_images[::4]


@pytest.fixture(scope="module")
def transformed(digits) -> dict[str, NDArray[np.uint8]]:
    return transform(digits)


def drawn(rows: slice, columns: slice, copies: int = 40) -> NDArray[np.uint8]:
    """A filled rectangle of ink, several times."""
    images = np.zeros((copies, 28, 28), np.uint8)
    images[:, rows, columns] = 255
    return images


def columns_of(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean column of the ink in each row that has any."""
    ink = image.astype(float)
    rows = ink.sum(axis=1) > 0
    return (ink[rows] @ np.arange(28)) / ink[rows].sum(axis=1)


def test_there_are_nine_and_each_keeps_type_shape_and_order(digits, transformed) -> None:
    assert list(transformed) == NAMES
    backwards = transform(digits[::-1])
    for name, images in transformed.items():
        assert (images.dtype, images.shape) == (np.uint8, digits.shape), name
        assert (images != digits).any(axis=(1, 2)).all(), name
        if name in {"smaller", "thin", "thick", "blurred", "faint"}:  # nothing is drawn
            assert (images == backwards[name][::-1]).all(), name


def test_they_are_the_same_each_time_and_leave_the_images_as_they_were(digits, transformed) -> None:
    before = digits.copy()
    again = transform(digits)
    assert all((again[name] == transformed[name]).all() for name in NAMES)
    assert (digits == before).all()


def test_moved_is_four_pixels_in_one_of_four_directions(digits, transformed) -> None:
    padded = np.pad(digits, ((0, 0), (4, 4), (4, 4)))
    steps = [padded[:, r : r + 28, c : c + 28] for r, c in ((0, 4), (8, 4), (4, 0), (4, 8))]
    found = [(step == transformed["moved"]).all(axis=(1, 2)) for step in steps]
    assert np.any(found, axis=0).all()
    assert min(np.sum(found, axis=1)) > len(digits) / 8


def test_smaller_leaves_seven_tenths_of_the_height_and_width() -> None:
    image = transform(drawn(slice(4, 24), slice(4, 24)))["smaller"][0]
    dark = image > 127
    assert (dark.any(axis=1).sum(), dark.any(axis=0).sum()) == (14, 14)
    assert (image == image[::-1, ::-1]).all()


def test_turned_is_twenty_degrees_in_either_direction() -> None:
    slopes = [
        np.polyfit(np.arange(12), columns_of(image)[4:16], 1)[0]
        for image in transform(drawn(slice(3, 25), slice(13, 15)))["turned"]
    ]
    assert {round(float(np.degrees(np.arctan(slope)))) for slope in slopes} == {-20, 20}


def test_slanted_is_half_a_column_a_row_in_either_direction() -> None:
    slopes = [
        np.polyfit(np.arange(20), columns_of(image), 1)[0]
        for image in transform(drawn(slice(4, 24), slice(13, 15)))["slanted"]
    ]
    assert {round(float(slope), 2) for slope in slopes} == {-0.5, 0.5}


def test_a_stroke_of_four_pixels_is_three_when_thin_and_six_when_thick() -> None:
    found = transform(drawn(slice(4, 24), slice(12, 16)))
    for name, width in (("thin", 3), ("thick", 6)):
        assert (found[name][0, 14] > 0).sum() == width


def test_blurred_keeps_the_ink_and_faint_leaves_two_fifths_of_it(transformed, digits) -> None:
    ink = digits.mean()
    assert transformed["blurred"].mean() == pytest.approx(ink, rel=0.01)
    assert transformed["blurred"].std() < 0.9 * digits.std()
    assert transformed["faint"].max() == 102
    assert transformed["faint"].mean() == pytest.approx(0.4 * ink, rel=0.01)


def test_noise_has_a_fifth_of_full_scale_and_stays_in_range() -> None:
    grey = np.full((100, 28, 28), 128, np.uint8)
    assert transform(grey)["noise"].std() == pytest.approx(51, rel=0.02)
    paper = transform(np.zeros((100, 28, 28), np.uint8))["noise"]
    assert (paper == 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("total", "count", "step"), [(10_000, 2000, 5), (1000, 1000, 1)])
def test_at_most_2000_images_are_taken_evenly(total: int, count: int, step: int) -> None:
    assert evenly(total).tolist() == [step * place for place in range(count)]


def test_of_3000_images_2000_different_ones_are_taken_from_first_to_last() -> None:
    chosen = evenly(3000)
    assert len(set(chosen.tolist())) == 2000
    assert (chosen[0], chosen[-1]) == (0, 2998)
