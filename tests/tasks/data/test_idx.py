import gzip
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from storage.errors import DatasetNotFoundError, DatasetUnavailableError, InvalidDataError
from tasks.data import idx
from tasks.data.dataset import Dataset
from tasks.data.idx import FILES, IMAGES_MAGIC, LABELS_MAGIC, find_files, read_images, read_labels

IMAGES = st.integers(0, 4).flatmap(lambda n: arrays(np.uint8, (n, 28, 28)))
LABELS = st.integers(0, 40).flatmap(lambda n: arrays(np.uint8, (n,)))


def header(magic: int, *sizes: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in (magic, *sizes))


def written(content: bytes, folder: Path, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    """The one line with which a file of images is refused."""
    with pytest.raises(InvalidDataError) as refused:
        read_images(path)
    message = str(refused.value)
    assert re.fullmatch(rf"{re.escape(str(path))}: expected .*received.*", message)
    return message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx")


@given(images=IMAGES, labels=LABELS)
def test_arrays_survive_a_round_trip_through_idx_plain_or_compressed(
    folder: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    image_file = header(IMAGES_MAGIC, len(images), 28, 28) + images.tobytes()
    label_file = header(LABELS_MAGIC, len(labels)) + labels.tobytes()
    for suffix, packed in (("", bytes), (".gz", gzip.compress)):
        read = read_images(written(packed(image_file), folder, f"images{suffix}"))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, images)
        read = read_labels(written(packed(label_file), folder, f"labels{suffix}"))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, labels)


@given(images=IMAGES, data=st.data())
def test_a_file_that_ends_early_or_late_is_refused(
    folder: Path, images: NDArray[np.uint8], data: st.DataObject
) -> None:
    content = header(IMAGES_MAGIC, len(images), 28, 28) + images.tobytes()
    shorter = data.draw(st.integers(0, len(content) - 1))
    refusal(written(content[:shorter], folder))
    refusal(written(content + data.draw(st.binary(min_size=1, max_size=50)), folder))
    packed = gzip.compress(content)
    shorter = data.draw(st.integers(0, len(packed) - 1))
    refusal(written(packed[:shorter], folder, "file.gz"))


@given(images=IMAGES, bit=st.integers(0, 16 * 8 - 1))
def test_a_header_with_one_bit_changed_is_refused(
    folder: Path, images: NDArray[np.uint8], bit: int
) -> None:
    content = bytearray(header(IMAGES_MAGIC, len(images), 28, 28) + images.tobytes())
    content[bit // 8] ^= 1 << bit % 8
    refusal(written(content, folder))


@given(images=IMAGES, data=st.data())
def test_a_compressed_file_with_one_bit_changed_is_refused_or_the_same_images(
    folder: Path, images: NDArray[np.uint8], data: st.DataObject
) -> None:
    packed = bytearray(gzip.compress(header(IMAGES_MAGIC, len(images), 28, 28) + images.tobytes()))
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    packed[bit // 8] ^= 1 << bit % 8
    path = written(packed, folder, "file.gz")
    try:
        read = read_images(path)
    except InvalidDataError:
        refusal(path)
    else:
        # The time and the system that gzip's header names, for instance.
        np.testing.assert_array_equal(read, images)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("file", b"", "a header of 16 bytes, received 0"),
        ("file.gz", b"", "a header of 16 bytes, received 0"),
        ("file", header(IMAGES_MAGIC, 2, 28), "a header of 16 bytes, received 12"),
        ("file", header(LABELS_MAGIC, 3, 0, 0), "0x00000803, received 0x00000801"),
        ("file", header(0x1F8B0800, 3, 0, 0), "0x00000803, received 0x1f8b0800"),
        ("file", header(IMAGES_MAGIC, 2, 28, 28) + bytes(784), "1584 bytes .* received 800"),
        ("file", header(IMAGES_MAGIC, 2, 28, 28) + bytes(2000), "1584 bytes .* received 2016"),
        ("file", header(IMAGES_MAGIC, 1, 32, 32) + bytes(1024), "28 x 28 pixels, received 32 x 32"),
        ("file", header(IMAGES_MAGIC, 1, 784, 1) + bytes(784), "28 x 28 pixels, received 784 x 1"),
        ("file", header(IMAGES_MAGIC, 0, 0, 0), "28 x 28 pixels, received 0 x 0"),
        ("file.gz", header(IMAGES_MAGIC, 1, 28, 28) + bytes(784), "Not a gzipped file"),
    ],
)
def test_a_file_that_is_not_an_image_file_is_refused_with_expected_and_received(
    folder: Path, name: str, content: bytes, said: str
) -> None:
    said = said.replace("a header", "an IDX header")
    assert re.search(said, refusal(written(content, folder, name)))


def test_a_file_of_images_is_refused_as_a_file_of_labels(folder: Path) -> None:
    path = written(header(IMAGES_MAGIC, 1, 28, 28) + bytes(784), folder)
    with pytest.raises(InvalidDataError, match=r"expected .*0x00000801, received 0x00000803"):
        read_labels(path)


@pytest.mark.parametrize("sizes", [(0xFFFFFFFF, 28, 28), (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)])
def test_a_header_that_promises_too_much_costs_no_memory(
    folder: Path, sizes: tuple[int, ...]
) -> None:
    path = written(header(IMAGES_MAGIC, *sizes) + bytes(784), folder)
    expected = 16 + sizes[0] * sizes[1] * sizes[2]
    tracemalloc.start()
    try:
        assert f"expected {expected} bytes" in refusal(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


def test_a_file_that_is_there_plain_and_compressed_is_refused_with_both_names(
    tmp_path: Path,
) -> None:
    for name in FILES.values():
        (tmp_path / name).touch()
    twice = f"{FILES['test_labels']}.gz"
    (tmp_path / twice).touch()
    with pytest.raises(DatasetNotFoundError) as refused:
        find_files(tmp_path)
    assert str(refused.value).endswith(
        f"received {tmp_path}, which contains both t10k-labels-idx1-ubyte and {twice};"
        " remove the one that is out of date"
    )


def test_the_four_files_are_found_plain_or_compressed(tmp_path: Path) -> None:
    names = [name + suffix for name, suffix in zip(FILES.values(), ["", ".gz"] * 2, strict=True)]
    for name in names:
        (tmp_path / name).touch()
    assert find_files(tmp_path) == {
        key: tmp_path / name for key, name in zip(FILES, names, strict=True)
    }


@pytest.mark.parametrize("missing", FILES.values())
def test_a_folder_without_one_of_the_files_is_refused_by_the_files_name(
    tmp_path: Path, missing: str
) -> None:
    for name in set(FILES.values()) - {missing}:
        (tmp_path / name).touch()
    (tmp_path / missing).mkdir()  # a folder of that name is no file
    with pytest.raises(DatasetNotFoundError) as refused:
        find_files(tmp_path)
    message = str(refused.value)
    assert "expected mnist, mnist-5k or a folder" in message
    assert f"received {tmp_path}, which contains neither {missing} nor {missing}.gz" in message
    assert "\n" not in message
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("name", ["missing", "file", "file/below", "long" * 100])
def test_a_path_that_is_not_a_folder_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetNotFoundError) as refused:
        find_files(tmp_path / name)
    message = str(refused.value)
    assert "expected mnist, mnist-5k or a folder" in message
    assert f"received {tmp_path / name}, which is not a folder" in message
    assert "\n" not in message


def test_an_empty_folder_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetNotFoundError, match=re.escape(f"received {tmp_path}, which contains neither ")
    ):
        find_files(tmp_path)


def test_files_replaced_while_they_are_read_are_refused(
    few: Dataset, write_idx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = find_files(write_idx(few))
    new, images = files["train_images"].with_name("new"), files["train_images"]

    def replace_images_then_read(path: Path) -> NDArray[np.uint8]:
        new.write_bytes(images.read_bytes())
        new.replace(images)
        return read_labels(path)

    monkeypatch.setattr(idx, "read_labels", replace_images_then_read)
    with pytest.raises(DatasetUnavailableError, match=r"expected files that do not change"):
        idx.read_all(files)
    monkeypatch.undo()
    assert len(idx.read_all(files)[0]) == 360
