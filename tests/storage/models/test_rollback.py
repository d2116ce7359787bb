"""Rollback, of versions that LiteRT really loads; and what is never loaded."""

import hashlib
import json
import random
from functools import partial
from pathlib import Path

import pytest

from storage.errors import DamagedModelError, InvalidParameterError, VersionNotFoundError
from storage.models.backends import LocalFolder
from storage.models.classifier import load_classifier
from storage.models.store import ModelStore
from storage.records import SwapKind


@pytest.fixture
def store(backend, tiny_model) -> ModelStore:
    """Three champions after one another."""
    made = ModelStore(backend, "mnist")
    for number in range(3):
        run = f"run-{number}"
        digest = made.stage(run, tiny_model, {"weights_digest": f"w{number}"})
        assert made.promote(run, digest, made.champion(), actor="retrain", reason="")
    return made


def back(store: ModelStore, to: str | None = None) -> str:
    return store.rollback(to, actor="anna@here", reason="why not").version


def test_each_rollback_goes_further_back_and_the_last_one_says_so(
    store: ModelStore, objects
) -> None:
    assert [back(store), back(store)] == ["run-1", "run-0"]
    with pytest.raises(VersionNotFoundError, match=r"found none; kept are run-2, run-1: choose"):
        back(store)
    assert store.champion().version == "run-0"
    # With the pointer gone, the champion itself may be what one wants back.
    del objects["champion.json"]
    with pytest.raises(VersionNotFoundError, match=r"kept are run-2, run-1, run-0: choose"):
        back(store)
    assert back(store, "run-0") == "run-0"


def test_if_no_other_version_is_kept_the_error_says_how_to_start_over(
    tmp_path: Path, tiny_model
) -> None:
    store = ModelStore(LocalFolder(tmp_path), "mnist")
    digest = store.stage("run-0", tiny_model, {"weights_digest": "w0"})
    store.promote("run-0", digest, None, actor="retrain", reason="")
    with pytest.raises(VersionNotFoundError, match=f"move {store.folder} away: the next run"):
        back(store)
    store.folder.rename(tmp_path / "away")
    assert store.champion() is None


def test_another_files_content_in_the_manifest_is_a_damaged_model(store: ModelStore) -> None:
    manifest = store.version("run-1") / "manifest.json"
    for content in (b"{", b"[]", b"{}", b'{"version": "run-1", "files": {"model.tflite": 1}}'):
        manifest.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        with pytest.raises(DamagedModelError, match="expected the manifest of a version"):
            load_classifier(store.version("run-1"), digest)


def test_a_rollback_is_a_swap_like_any_other_and_says_who_and_why(store: ModelStore) -> None:
    back(store)
    swap = store.history().swaps[-1]
    assert (swap.generation, swap.version, swap.predecessor) == (4, "run-1", "run-2")
    assert (swap.kind, swap.actor, swap.reason) == (SwapKind.ROLLBACK, "anna@here", "why not")
    assert store.read_champion()[0] == swap.pointer


def test_to_a_version_by_name_and_forward_again(store: ModelStore) -> None:
    assert back(store, "run-0") == "run-0"
    assert set(store.history().rolled_back) == {"w1", "w2"}
    assert back(store, "run-2") == "run-2"
    assert set(store.history().rolled_back) == {"w0", "w1"}
    with pytest.raises(InvalidParameterError, match="another version than the champion"):
        back(store, "run-2")
    for nonsense in ("run-9", "..", "../mnist", "", "run-1/"):
        with pytest.raises(VersionNotFoundError, match="--to: expected one of the kept versions"):
            back(store, nonsense)


def test_without_a_champion_there_is_nothing_to_roll_back(tmp_path: Path) -> None:
    with pytest.raises(VersionNotFoundError, match="found none"):
        back(ModelStore(LocalFolder(tmp_path), "mnist"))
    assert not (tmp_path / "mnist").exists()


def test_a_version_that_does_not_load_is_not_rolled_back_to(store: ModelStore) -> None:
    champion = store.champion()
    path = store.version("run-1") / "model.tflite"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedModelError, match=r"choose another one with --to RUN"):
        back(store)
    assert store.champion() == champion
    assert back(store, "run-0") == "run-0"


def test_a_rollback_replaces_a_damaged_pointer(store: ModelStore, objects) -> None:
    objects["champion.json"] = b"{"
    assert back(store, "run-2") == "run-2", "also to the one that was in use"
    assert json.loads(objects["champion.json"])["generation"] == 4
    objects["champion.json"] = b""
    assert back(store) == "run-1"
    assert [swap.generation for swap in store.history().swaps] == [1, 2, 3, 4, 5]


def test_a_version_that_the_history_does_not_know_can_be_named(store: ModelStore, objects) -> None:
    del objects[objects.state_file()]
    assert back(store, "run-0") == "run-0"
    assert [swap.version for swap in store.history().swaps] == ["run-2", "run-0"]


def test_a_version_whose_answers_are_not_those_of_the_golden_batch_is_not_loaded(
    tmp_path: Path, tiny_model
) -> None:
    import numpy as np

    def answer_otherwise(folder: Path, wrong: float) -> None:
        tiny_model(folder)
        with np.load(folder / "golden.npz") as golden:
            images, probabilities = golden["images"], golden["probabilities"]
        probabilities = probabilities.copy()
        probabilities[0, 0] += wrong
        np.savez(folder / "golden.npz", images=images, probabilities=probabilities)

    for number, wrong in enumerate((2e-4, float("nan"))):
        store = ModelStore(LocalFolder(tmp_path), f"case-{number}")
        digest = store.stage("run-1", partial(answer_otherwise, wrong=wrong), {})
        with pytest.raises(DamagedModelError, match=r"golden batch within 0\.0001"):
            load_classifier(store.candidate("run-1"), digest)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.tflite", r"expected model\.tflite and golden\.npz"),
        ("golden.npz", r"early releases did not store; move the folder of this name out of"),
    ],
)
def test_a_version_without_model_or_golden_batch_is_not_loaded(
    tmp_path: Path, tiny_model, missing: str, message: str
) -> None:
    def incomplete(folder: Path) -> None:
        tiny_model(folder)
        (folder / missing).unlink()

    store = ModelStore(LocalFolder(tmp_path), "mnist")
    digest = store.stage("run-1", incomplete, {})
    with pytest.raises(DamagedModelError, match=message):
        load_classifier(store.candidate("run-1"), digest)


@pytest.mark.parametrize("backend", ["folder"], indirect=True)
def test_of_1000_flipped_bits_and_200_truncations_none_is_ever_loaded(store: ModelStore) -> None:
    pointer = store.champion()
    folder = store.version(pointer.version)
    files = sorted(folder.iterdir())
    assert {path.name for path in files} == {"model.tflite", "golden.npz", "manifest.json"}
    load_classifier(folder, pointer.digest)
    chance = random.Random(0)
    loaded, messages = [], []

    for number in range(1200):
        path = chance.choice(files)
        content = path.read_bytes()
        damaged = bytearray(content)
        if number < 1000:
            damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        else:
            damaged = damaged[: chance.randrange(len(content))]
        path.write_bytes(damaged)
        for load in (lambda: load_classifier(folder, pointer.digest), store.read_champion):
            try:
                load()
                loaded.append((number, path.name))
            except DamagedModelError as error:
                messages.append(str(error))
        path.write_bytes(content)

    assert loaded == []
    assert len(messages) == 2400
    assert not any("\n" in message for message in messages)
    load_classifier(folder, pointer.digest)
