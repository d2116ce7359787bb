import hashlib
import json
import re
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.errors import ModelStoreError
from storage.model_store import ModelStore
from storage.records import Pointer

CONTENT = b"weights " * 1000


def write_model(folder: Path) -> None:
    """A candidate of two files, which stand for a model's."""
    (folder / "model.keras").write_bytes(CONTENT)
    (folder / "model.tflite").write_bytes(CONTENT[::-1])


def files_under(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but its lock, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def no_space_for_files() -> Iterator[None]:
    """Every write to a file fails, as on a full disk: the system's own limit is 0 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def refused() -> Iterator[None]:
    """What happens within is a ModelStoreError of one line."""
    with pytest.raises(ModelStoreError) as error:
        yield
    assert "\n" not in str(error.value)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", "mnist")


def test_a_candidate_has_a_manifest_of_its_files_and_origin(store: ModelStore) -> None:
    folder = store.stage("run-1", write_model, {"seed": 7, "code_commit": None})
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest == {
        "version": "run-1",
        "seed": 7,
        "code_commit": None,
        "files": {
            name: {"sha256": sha256(folder / name), "size_bytes": len(CONTENT)}
            for name in ("model.keras", "model.tflite")
        },
    }


def test_a_candidate_is_no_version_before_it_is_promoted(store: ModelStore) -> None:
    store.stage("run-1", write_model, {})
    assert store.champion() is None
    assert not store.version("run-1").exists()


def test_promotion_moves_the_candidate_and_points_to_it(store: ModelStore) -> None:
    candidate = store.stage("run-1", write_model, {})
    content = files_under(candidate)
    pointer = store.promote("run-1")
    assert not candidate.exists()
    assert files_under(store.version("run-1")) == content
    assert pointer == Pointer(1, "run-1", sha256(store.version("run-1") / "manifest.json"))
    assert store.champion() == pointer
    kept = json.loads((store.folder / "champion.json").read_text(encoding="utf-8"))
    assert kept == {"generation": 1, "version": "run-1", "digest": pointer.digest}


def test_the_generation_rises_by_one_and_old_versions_stay(store: ModelStore) -> None:
    for number in (1, 2, 3):
        store.stage(f"run-{number}", write_model, {"number": number})
        assert store.promote(f"run-{number}").generation == number
    assert store.champion().version == "run-3"
    assert all((store.version(f"run-{number}") / "model.tflite").exists() for number in (1, 2, 3))


def test_two_datasets_have_a_champion_each(tmp_path: Path) -> None:
    one, two = ModelStore(tmp_path, "one"), ModelStore(tmp_path, "two")
    one.stage("run-1", write_model, {})
    one.promote("run-1")
    assert two.champion() is None


def test_discarding_removes_the_candidate_and_nothing_else(store: ModelStore) -> None:
    store.stage("run-1", write_model, {})
    store.promote("run-1")
    store.stage("run-2", write_model, {})
    before = files_under(store.folder)
    candidate = store.stage("run-3", write_model, {})
    store.discard("run-3")
    store.discard("run-1")
    store.discard("nobody")
    assert not candidate.exists()
    assert files_under(store.folder) == before


def half_a_model(folder: Path) -> None:
    (folder / "model.keras").write_bytes(CONTENT)
    raise ArithmeticError("the export failed")


def an_interrupted_model(folder: Path) -> None:
    (folder / "model.keras").write_bytes(CONTENT)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("write", "error"),
    [(half_a_model, ArithmeticError), (an_interrupted_model, KeyboardInterrupt)],
)
def test_a_candidate_that_cannot_be_finished_leaves_nothing_behind(
    store: ModelStore, write: Callable[[Path], None], error: type[BaseException]
) -> None:
    with pytest.raises(error):
        store.stage("run-1", write, {})
    assert files_under(store.folder) == {}
    assert not (store.folder / "staging" / "run-1").exists()


def test_a_candidate_for_which_the_disk_has_no_space_leaves_nothing_behind(
    store: ModelStore,
) -> None:
    with refused(), no_space_for_files():
        store.stage("run-1", write_model, {})
    assert not (store.folder / "staging" / "run-1").exists()
    # The model's files are written and the manifest is not.
    with refused(), no_space_for_files():
        store.stage("run-1", lambda folder: (folder / "model.keras").touch(), {})
    assert not (store.folder / "staging" / "run-1").exists()


def test_a_pointer_for_which_the_disk_has_no_space_leaves_the_champion_as_it_is(
    store: ModelStore,
) -> None:
    store.stage("run-1", write_model, {})
    champion = store.promote("run-1")
    before = files_under(store.folder)
    store.stage("run-2", write_model, {})
    with refused(), no_space_for_files():
        store.promote("run-2")
    assert store.champion() == champion
    store.discard("run-2")
    assert files_under(store.folder) == before


def test_a_run_stages_and_promotes_only_once(store: ModelStore) -> None:
    store.stage("run-1", write_model, {})
    before = files_under(store.folder)
    with refused():
        store.stage("run-1", half_a_model, {})
    assert files_under(store.folder) == before
    champion = store.promote("run-1")
    store.stage("run-1", write_model, {"second": True})
    with refused():
        store.promote("run-1")
    assert store.champion() == champion
    manifest = json.loads((store.version("run-1") / "manifest.json").read_text(encoding="utf-8"))
    assert "second" not in manifest


def test_nothing_is_promoted_that_was_not_staged(store: ModelStore) -> None:
    store.stage("run-1", write_model, {})
    champion = store.promote("run-1")
    for missing in ("run-1", "nobody"):
        with refused():
            store.promote(missing)
    assert store.champion() == champion


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe\x00",
        b"two\nlines",
        b'{"generation": 1, "version": "run-1"}',
        b'{"generation": "1", "version": "run-1", "digest": "ab"}',
        b'{"generation": 1, "version": null, "digest": "ab"}',
    ],
)
def test_a_damaged_pointer_is_named_and_neither_mended_nor_overtaken(
    store: ModelStore, content: bytes
) -> None:
    store.stage("run-1", write_model, {})
    store.promote("run-1")
    path = store.folder / "champion.json"
    path.write_bytes(content)
    before = files_under(store.folder)
    with pytest.raises(ModelStoreError, match=rf"^{re.escape(str(path))}: expected .*received .*$"):
        store.champion()
    store.stage("run-2", write_model, {})
    with refused():
        store.promote("run-2")
    store.discard("run-2")
    assert files_under(store.folder) == before


def test_a_store_that_cannot_be_written_is_named_with_what_to_check(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = ModelStore(tmp_path / "file" / "models", "mnist")
    for act in (
        lambda: store.stage("run-1", write_model, {}),
        lambda: store.promote("run-1"),
        store.champion,
    ):
        with pytest.raises(ModelStoreError, match=r"^the model store .*mnist.*DIGITS_MODELS_URL"):
            act()
    store.discard("run-1")


def test_processes_that_promote_at_once_make_one_sequence_and_readers_see_whole_versions(
    store: ModelStore, at_once: Callable[[str, str, Sequence[Sequence[object]]], list[str]]
) -> None:
    promoters, promotions = 3, 40
    names = [[f"{who}-{number}" for number in range(promotions)] for who in range(promoters)]
    for name in (name for own in names for name in own):
        store.stage(name, write_model, {"name": name})
    prepare = (
        "import hashlib, time; from pathlib import Path\n"
        "from storage.model_store import ModelStore\n"
        "store = ModelStore(Path(sys.argv[1]), 'mnist')"
    )
    work = f"""
if sys.argv[2] == 'read':
    seen = [0]
    deadline = time.monotonic() + 60
    while seen[-1] < {promoters * promotions} and time.monotonic() < deadline:
        pointer = store.champion()
        if pointer is None:
            continue
        manifest = (store.version(pointer.version) / 'manifest.json').read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == pointer.digest
        seen.append(pointer.generation)
    assert seen == sorted(seen)
    print(len(set(seen)))
else:
    for name in sys.argv[2:]:
        print(store.promote(name).generation, name)
"""
    arguments = [[store.folder.parent, *own] for own in [*names, ["read"]]]
    *promoted, read = at_once(prepare, work, arguments)
    generations = dict(line.split() for answer in promoted for line in answer.splitlines())
    assert sorted(map(int, generations)) == list(range(1, promoters * promotions + 1))
    champion = store.champion()
    assert champion.generation == promoters * promotions
    assert champion.version == generations[str(champion.generation)]
    assert champion.digest == sha256(store.version(champion.version) / "manifest.json")
    # The reader saw the swaps happen, not only their end.
    assert int(read) > 2
