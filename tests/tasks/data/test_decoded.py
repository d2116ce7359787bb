"""What was decompressed once is mapped, and is never taken for what it is not."""

import gzip
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.errors import DatasetUnavailableError
from tasks.data.dataset import Dataset
from tasks.data.decoded import ABANDONED_AFTER_S, DIGEST, KEPT_DATASETS, decoded
from tasks.data.idx import FILES, Arrays
from tasks.load import load

Kept = tuple[Path, Path, Dataset]


@pytest.fixture
def kept(write_idx: Callable[..., Path], few: Dataset, tmp_path: Path) -> Kept:
    """A compressed dataset that was loaded once, and the cache."""
    source, cache = write_idx(few, compressed=True), tmp_path / "cache"
    return source, cache, load.fn(str(source), cache)


def same(first: Dataset, second: Dataset) -> bool:
    return first.digest == second.digest and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in FILES
    )


def folders(cache: Path) -> list[Path]:
    return [path.parent for path in cache.glob(f"*/{DIGEST}")]


def test_the_second_load_maps_the_same_content(kept: Kept) -> None:
    source, cache, first = kept
    second = load.fn(str(source), cache)
    assert same(first, second)
    base = second.train_images
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not second.train_images.flags.writeable
    assert {path.name for path in folders(cache)[0].iterdir()} == {DIGEST, *FILES.values()}


def test_plain_files_are_not_kept_twice(
    write_idx: Callable[..., Path], few: Dataset, tmp_path: Path
) -> None:
    load.fn(str(write_idx(few)), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_source_that_changed_is_decoded_anew(kept: Kept, few: Dataset) -> None:
    source, cache, first = kept
    path = source / f"{FILES['train_labels']}.gz"
    before = path.stat()
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[8:10] = content[9], content[8]
    path.write_bytes(gzip.compress(bytes(content)))
    # Not even with its old time it is taken for the old one.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = load.fn(str(source), cache)
    assert changed.digest != first.digest
    assert changed.train_labels[0] == first.train_labels[1]


@pytest.mark.parametrize("name", [*FILES.values(), DIGEST])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_a_damaged_cache_is_never_trained_on(
    kept: Kept, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, cache, first = kept
    path = folders(cache)[0] / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    cut = {"flipped": bytes(content), "cut": content[: len(content) // 2], "empty": b""}
    path.unlink()
    if damage != "gone":
        path.write_bytes(cut[damage])
    assert same(load.fn(str(source), cache), first)
    assert ("is damaged and decoded anew" in caplog.text) == (damage != "gone")
    caplog.clear()
    assert same(load.fn(str(source), cache), first)
    assert "decoded anew" not in caplog.text, "it was mended"


def test_a_cache_that_cannot_be_written_costs_only_a_warning(
    write_idx: Callable[..., Path],
    few: Dataset,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = write_idx(few, compressed=True)
    (tmp_path / "file").write_text("no folder")
    loaded = load.fn(str(source), tmp_path / "file")
    assert same(loaded, few)
    assert "the decoded dataset could not be kept" in caplog.text


def test_of_data_that_changes_each_night_the_last_few_are_kept(kept: Kept) -> None:
    source, cache, _ = kept
    path = source / f"{FILES['test_labels']}.gz"
    content = gzip.decompress(path.read_bytes())
    for level in range(1, KEPT_DATASETS + 3):
        path.write_bytes(gzip.compress(content, level, mtime=level))
        load.fn(str(source), cache)
    assert len(folders(cache)) == KEPT_DATASETS
    assert sorted(cache.iterdir()) == sorted(folders(cache))
    before = {folder.stat().st_ino for folder in folders(cache)}
    load.fn(str(source), cache)
    assert {folder.stat().st_ino for folder in folders(cache)} == before, "the newest is there"


@pytest.mark.parametrize("cached", [True, False])
def test_files_that_were_replaced_while_they_were_read_are_not_taken(
    tmp_path: Path, cached: bool
) -> None:
    source, array = tmp_path / "source", np.zeros((1, 28, 28), np.uint8)
    source.write_bytes(b"old")
    arrays = array, array[0, 0, :1], array, array[0, 0, :1]

    def decode() -> Arrays:
        source.write_bytes(b"newer")
        return arrays

    cache = tmp_path / "cache" if cached else None
    with pytest.raises(DatasetUnavailableError, match=f"{tmp_path}: expected files that stay"):
        decoded([source], decode, cache)
    assert not (tmp_path / "cache").exists()
    assert decoded([source], lambda: arrays, cache)[0] is arrays, "they stay now"


def test_what_was_downloaded_just_now_is_kept(tmp_path: Path) -> None:
    source, array = tmp_path / "source", np.zeros((1, 28, 28), np.uint8)
    arrays = array, array[0, 0, :1], array, array[0, 0, :1]

    def download() -> Arrays:
        source.write_bytes(b"here")
        return arrays

    decoded([source], download, tmp_path / "cache")
    again, _ = decoded([source], lambda: pytest.fail("decoded again"), tmp_path / "cache")
    assert all(np.array_equal(one, other) for one, other in zip(again, arrays, strict=True))


def test_a_cache_that_cannot_be_entered_costs_only_a_warning(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source, cache, first = kept
    real = Path.lstat

    def refused(path: Path) -> os.stat_result:
        if path.parent == cache:
            raise PermissionError(13, "Permission denied")
        return real(path)

    # Root, as whom tests may run, is refused nothing.
    monkeypatch.setattr(Path, "lstat", refused)
    assert same(load.fn(str(source), cache), first)
    assert "cannot be read" in caplog.text


def test_what_is_not_there_is_kept_under_no_name(tmp_path: Path) -> None:
    array = np.zeros((1, 28, 28), np.uint8)
    arrays = array, array[0, 0, :1], array, array[0, 0, :1]
    decoded([tmp_path / "missing"], lambda: arrays, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_a_kill_left_is_removed_after_an_hour_and_what_is_not_ours_stays(kept: Kept) -> None:
    source, cache, _ = kept
    for name, age_s in (
        ("new-0ld_0ld_", ABANDONED_AFTER_S + 60),
        ("new-young_00", 60),
        ("my-scans", ABANDONED_AFTER_S + 60),
    ):
        (cache / name / "0123").mkdir(parents=True)
        then = time.time() - age_s
        os.utime(cache / name, (then, then))
    load.fn(str(source), cache)
    left = {path.name for path in cache.iterdir()}
    assert left == {"new-young_00", "my-scans", *(folder.name for folder in folders(cache))}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_stands_in_the_place_of_a_dataset_is_replaced(
    kept: Kept, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, cache, first = kept
    (place,) = folders(cache)
    shutil.rmtree(place)
    if kind == "file":
        place.write_text("in the way")
    else:
        (cache / "elsewhere").mkdir()
        place.symlink_to(cache / "elsewhere")
    assert same(load.fn(str(source), cache), first)
    assert "it is no folder" in caplog.text
    caplog.clear()
    assert same(load.fn(str(source), cache), first)
    assert not caplog.records or "decoded" not in caplog.text
    assert folders(cache) == [place]


def test_mnist_is_mapped_without_keras_once_it_was_decoded(
    few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    shutil.copy(__file__, tmp_path / "datasets" / "mnist.npz")
    sets = (few.train_images, few.train_labels), (few.test_images, few.test_labels)
    # The real one needs a network, or all of MNIST in Keras' cache.
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: sets)
    first = load.fn("mnist", tmp_path / "cache")
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: pytest.fail("decoded again"))
    assert same(load.fn("mnist", tmp_path / "cache"), first)
