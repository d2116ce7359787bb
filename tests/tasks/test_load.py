import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from storage.errors import DatasetNotFoundError, InvalidDataError
from tasks.data.dataset import Dataset, digest
from tasks.data.idx import FILES
from tasks.load import load

# Of the content, so the same on every machine: runs with another digest are not comparable.
MNIST_5K_DIGEST = "ff9936f379a6bd08b040e977f21bc5f776588f8df1e70e8bfabe7fa6e71c52bf"
MNIST_DIGEST = "52cd6c10ae77107af32269dd9d10ca19c1b749e83235a0c75e2f0729ebeaf141"

# Of the four files of http://yann.lecun.com/exdb/mnist/, uncompressed.
MNIST_MD5 = {
    "train_images": "6bbc9ace898e44ae57da46a324031adb",
    "train_labels": "a25bea736e30d166cdddb491f175f624",
    "test_images": "2646ac647ad5339dbf082846283269ea",
    "test_labels": "27ae3e4e09519cfbb04c329615203637",
}


def arrays_of(dataset: Dataset) -> dict[str, np.ndarray]:
    return {field.name: getattr(dataset, field.name) for field in fields(dataset)[:4]}


def test_mnist_5k_is_five_thousand_digits_in_one_fixed_even_split(mnist_5k: Dataset) -> None:
    assert mnist_5k.train_images.shape == (4000, 28, 28)
    assert mnist_5k.test_images.shape == (1000, 28, 28)
    assert {array.dtype for array in arrays_of(mnist_5k).values()} == {np.dtype(np.uint8)}
    assert np.bincount(mnist_5k.train_labels).tolist() == [400] * 10
    assert np.bincount(mnist_5k.test_labels).tolist() == [100] * 10
    assert mnist_5k.train_images.max() == 255
    assert mnist_5k.digest == MNIST_5K_DIGEST


def test_no_test_image_of_mnist_5k_is_among_its_training_images(mnist_5k: Dataset) -> None:
    training = {image.tobytes() for image in mnist_5k.train_images}
    assert not any(image.tobytes() in training for image in mnist_5k.test_images)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_folder_of_idx_files_is_read_as_it_was_written(
    few: Dataset, write_idx: Callable[..., Path], compressed: bool
) -> None:
    loaded = load.fn(str(write_idx(few, compressed=compressed)))
    for name, array in arrays_of(few).items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert loaded.digest == few.digest


def test_a_folder_with_a_missing_or_truncated_file_is_refused_by_the_files_name(
    few: Dataset, write_idx: Callable[..., Path]
) -> None:
    folder = write_idx(few)
    path = folder / FILES["test_labels"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InvalidDataError, match=path.name):
        load.fn(str(folder))
    path.unlink()
    with pytest.raises(DatasetNotFoundError, match=path.name):
        load.fn(str(folder))


@pytest.mark.parametrize("name", FILES)
def test_the_digest_changes_with_one_pixel_or_label(
    few: Dataset, write_idx: Callable[..., Path], name: str
) -> None:
    changed = getattr(few, name).copy()
    changed.flat[-1] ^= 1
    folder = write_idx(replace(few, **{name: changed}))
    assert load.fn(str(folder)).digest != few.digest


def test_the_digest_distinguishes_arrays_of_the_same_bytes() -> None:
    zeros = np.zeros(8, np.uint8)
    digests = {
        digest(zeros),
        digest(zeros.reshape(2, 4)),
        digest(zeros.view(np.int16)),
        digest(zeros[:4], zeros[4:]),
        digest(zeros[:2], zeros[2:]),
    }
    assert len(digests) == 5
    # The memory layout of an array is not part of its content.
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert digest(np.asfortranarray(pixels)) == digest(pixels) == digest(pixels.copy())


def test_mnist_is_loaded_from_its_files_as_it_was_published(mnist_folder: Path) -> None:
    mnist = load.fn(str(mnist_folder))
    for name, array in arrays_of(mnist).items():
        magic = 0x0800 + array.ndim  # 08: unsigned bytes
        sizes = b"".join(number.to_bytes(4, "big") for number in (magic, *array.shape))
        md5 = hashlib.md5(sizes + array.tobytes(), usedforsecurity=False).hexdigest()
        assert md5 == MNIST_MD5[name]
    assert mnist.digest == MNIST_DIGEST


def test_mnist_5k_is_a_subset_of_the_training_images_of_mnist(
    mnist_folder: Path, mnist_5k: Dataset
) -> None:
    mnist = load.fn(str(mnist_folder))
    digits = zip(mnist.train_images, mnist.train_labels, strict=True)
    label_of = {image.tobytes(): label for image, label in digits}
    for images, labels in (
        (mnist_5k.train_images, mnist_5k.train_labels),
        (mnist_5k.test_images, mnist_5k.test_labels),
    ):
        assert [label_of.get(image.tobytes()) for image in images] == labels.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("stalled", [False, True])
def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, stalled: bool) -> None:
    program = (
        "import tasks.load\n"
        "from storage.errors import DatasetUnavailableError\n"
        "tasks.load.STALLED_S = 0.5\n"
        "try:\n"
        "    tasks.load.load.fn('mnist')\n"
        "except DatasetUnavailableError as error:\n"
        "    print(error)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and never answers
        port = silent.getsockname()[1] if stalled else 9
        # An empty cache, and a proxy that does not exist or says nothing.
        nowhere = dict.fromkeys(("http_proxy", "https_proxy"), f"http://127.0.0.1:{port}")
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"KERAS_HOME": str(tmp_path), "HOME": str(tmp_path), **nowhere},
            timeout=300,
        )
    (message,) = done.stdout.splitlines()
    assert message.startswith("MNIST could not be downloaded")
    assert "--dataset mnist-5k" in message
    assert "--dataset FOLDER" in message
