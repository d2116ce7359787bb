import hashlib
import json
import re
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.errors import DamagedModelError, DamagedStateError, ModelStoreError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore, open_store, store_names
from storage.records import Pointer, SwapKind

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


def promote(store: ModelStore, run_id: str, digest: str | None = None) -> Pointer:
    """Promote a staged candidate over the champion that there is."""
    digest = digest or sha256(store.candidate(run_id) / "manifest.json")
    swap = store.promote(run_id, digest, store.champion(), actor="test", reason="it is better")
    assert swap is not None
    return swap.pointer


def stage_and_promote(store: ModelStore, run_id: str, **origin: object) -> Pointer:
    digest = store.stage(run_id, write_model, {"weights_digest": run_id, **origin})
    return promote(store, run_id, digest)


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
def folder_store(tmp_path: Path) -> ModelStore:
    """A store in a folder, for what only a disk can do."""
    return ModelStore(LocalFolder(tmp_path / "models"), "mnist")


def test_a_candidate_has_a_manifest_of_its_files_and_origin(store: ModelStore) -> None:
    digest = store.stage("run-1", write_model, {"seed": 7, "code_commit": None})
    folder = store.candidate("run-1")
    assert digest == sha256(folder / "manifest.json")
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


def test_a_candidate_is_not_a_version_until_it_is_promoted(store: ModelStore) -> None:
    store.stage("run-1", write_model, {})
    assert store.champion() is None
    assert not store.version("run-1").exists()


def test_promotion_moves_the_candidate_and_points_to_it(store: ModelStore, objects) -> None:
    digest = store.stage("run-1", write_model, {})
    candidate = store.candidate("run-1")
    content = files_under(candidate)
    pointer = promote(store, "run-1", digest)
    assert not candidate.exists()
    assert files_under(store.version("run-1")) == content
    assert pointer == Pointer(1, "run-1", sha256(store.version("run-1") / "manifest.json"))
    assert store.champion() == pointer
    assert json.loads(objects["champion.json"]) == {
        "generation": 1,
        "version": "run-1",
        "digest": pointer.digest,
        "state": objects.state_file(),
    }
    assert re.fullmatch(r"states/00000001-[0-9a-f]{16}\.json", objects.state_file())


def test_the_generation_rises_by_one_and_old_versions_stay(store: ModelStore) -> None:
    for number in (1, 2, 3):
        assert stage_and_promote(store, f"run-{number}").generation == number
    assert store.champion().version == "run-3"
    assert all((store.version(f"run-{number}") / "model.tflite").exists() for number in (1, 2, 3))


def test_a_reader_that_comes_before_the_first_promotions_and_sees_their_history_sees_the_champion(
    store: ModelStore, backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = backend.names

    def late(prefix: str) -> list[str]:
        # What a busy machine may do between a reader's two reads.
        monkeypatch.undo()
        stage_and_promote(store, "first")
        stage_and_promote(store, "second")
        return names(prefix)

    monkeypatch.setattr(backend, "names", late)

    pointer = store.champion()
    assert pointer is not None
    assert (pointer.version, pointer.generation) == ("second", 2)


def test_two_names_have_a_champion_each(backend) -> None:
    one, two = ModelStore(backend, "one"), ModelStore(backend, "two")
    stage_and_promote(one, "run-1")
    assert two.champion() is None


def test_discarding_removes_the_candidate_and_nothing_else(store: ModelStore, objects) -> None:
    stage_and_promote(store, "run-1")
    store.stage("run-2", write_model, {})
    before = files_under(store.folder), objects.all()
    store.stage("run-3", write_model, {})
    candidate = store.candidate("run-3")
    store.discard("run-3")
    store.discard("run-1")
    store.discard("nobody")
    assert not candidate.exists()
    assert (files_under(store.folder), objects.all()) == before


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


def test_staging_on_a_full_disk_leaves_nothing_behind(
    folder_store: ModelStore,
) -> None:
    store = folder_store
    with refused(), no_space_for_files():
        store.stage("run-1", write_model, {})
    assert not (store.folder / "staging" / "run-1").exists()
    # The model's files are written and the manifest is not.
    with refused(), no_space_for_files():
        store.stage("run-1", lambda folder: (folder / "model.keras").touch(), {})
    assert not (store.folder / "staging" / "run-1").exists()


def test_swapping_the_pointer_on_a_full_disk_keeps_the_champion(
    folder_store: ModelStore,
) -> None:
    store = folder_store
    champion = stage_and_promote(store, "run-1")
    before = files_under(store.folder)
    store.stage("run-2", write_model, {})
    with refused(), no_space_for_files():
        promote(store, "run-2")
    assert store.champion() == champion
    store.discard("run-2")
    assert files_under(store.folder) == before


def test_a_run_stages_and_promotes_only_once(store: ModelStore) -> None:
    store.stage("run-1", write_model, {})
    before = files_under(store.folder)
    with refused():
        store.stage("run-1", half_a_model, {})
    assert files_under(store.folder) == before
    champion = promote(store, "run-1")
    digest = store.stage("run-1", write_model, {"second": True})
    with refused():
        promote(store, "run-1", digest)
    assert store.champion() == champion
    manifest = json.loads((store.version("run-1") / "manifest.json").read_text(encoding="utf-8"))
    assert "second" not in manifest


def test_nothing_is_promoted_that_was_not_staged(store: ModelStore) -> None:
    champion = stage_and_promote(store, "run-1")
    for missing in ("run-1", "nobody"):
        with refused():
            promote(store, missing, "ab" * 32)
    assert store.champion() == champion


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"two\nlines",
        b'{"generation": 1, "version": "run-1"}',
        b'{"generation": "1", "version": "run-1", "digest": "ab"}',
        b'{"generation": 1, "version": null, "digest": "ab"}',
        b'{"generation": 0, "version": null, "digest": null}',
        b'{"generation": 1, "version": "run-1", "digest": "ab", "state": 3}',
    ],
)
def test_a_damaged_pointer_is_named_and_neither_repaired_nor_overwritten(
    store: ModelStore, backend, objects, content: bytes
) -> None:
    stage_and_promote(store, "run-1")
    objects["champion.json"] = content
    before = objects.all()
    path = re.escape(f"{backend}/mnist/champion.json")
    with pytest.raises(DamagedStateError, match=rf"^{path}: expected .*received .*$"):
        store.champion()
    digest = store.stage("run-2", write_model, {})
    with refused():
        store.promote("run-2", digest, None, actor="test", reason="")
    with refused():
        store.give_up("run-2")
    store.discard("run-2")
    assert objects.all() == before


def test_a_store_that_cannot_be_written_is_named_with_what_to_check(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = ModelStore(LocalFolder(tmp_path / "file" / "models"), "mnist")
    for act in (
        lambda: store.stage("run-1", write_model, {}),
        lambda: store.promote("run-1", "ab", None, actor="test", reason=""),
        store.champion,
    ):
        with pytest.raises(ModelStoreError, match=r"^the model store .*mnist.*DIGITS_MODELS_URL"):
            act()
    store.discard("run-1")


def test_a_challenger_is_not_promoted_over_a_champion_that_it_was_not_compared_with(
    store: ModelStore, objects
) -> None:
    seen = stage_and_promote(store, "run-1")
    digest = store.stage("run-2", write_model, {})
    moved = stage_and_promote(store, "run-3")
    before = files_under(store.folder), objects.all()
    for wrong in (None, seen, Pointer(moved.generation, moved.version, "ab" * 32)):
        assert store.promote("run-2", digest, wrong, actor="test", reason="") is None
    assert (files_under(store.folder), objects.all()) == before
    assert promote(store, "run-2", digest).generation == 3


def test_a_candidate_that_changed_after_it_was_staged_is_not_promoted(store: ModelStore) -> None:
    champion = stage_and_promote(store, "run-1")
    for name in ("model.tflite", "manifest.json"):
        digest = store.stage("run-2", write_model, {})
        with (store.candidate("run-2") / name).open("ab") as file:
            file.write(b" ")
        with pytest.raises(DamagedModelError, match=f"{name}: expected the SHA-256"):
            promote(store, "run-2", digest)
        assert store.champion() == champion
        store.discard("run-2")


def test_the_history_holds_every_swap(store: ModelStore, objects) -> None:
    assert store.history().swaps == ()
    before = datetime.now(UTC)
    stage_and_promote(store, "run-1", test_correct=9, test_total=10)
    stage_and_promote(store, "run-2")
    first, second = store.history().swaps
    assert (first.generation, first.version, first.predecessor) == (1, "run-1", None)
    assert (second.generation, second.version, second.predecessor) == (2, "run-2", "run-1")
    assert second.pointer == store.champion()
    assert (first.weights_digest, first.test_correct, first.test_total) == ("run-1", 9, 10)
    assert (first.kind, first.actor, first.reason) == (
        SwapKind.PROMOTION, "test", "it is better",
    )  # fmt: skip
    assert before <= first.swapped_at <= second.swapped_at <= datetime.now(UTC)
    # Pointer and history are one: the pointer names the file that holds the history.
    state = json.loads(objects[json.loads(objects["champion.json"])["state"]])
    assert [swap["version"] for swap in state["swaps"]] == ["run-1", "run-2"]
    assert (state["kept"], state["given_up"]) == (["run-1", "run-2"], [])


def test_a_swap_that_crashed_before_the_pointer_moved_did_not_happen(
    store: ModelStore, objects
) -> None:
    stage_and_promote(store, "run-1")
    pointer = objects["champion.json"]
    stage_and_promote(store, "run-2")
    objects["champion.json"] = pointer
    assert [swap.version for swap in store.history().swaps] == ["run-1"]
    assert store.give_up("run-2") is None, "as recovery does with a run that died"
    stage_and_promote(store, "run-3")
    assert [swap.version for swap in store.history().swaps] == ["run-1", "run-3"]
    assert [swap.generation for swap in store.history().swaps] == [1, 2]
    assert objects.versions() == ["run-1", "run-3"], "run-2 never was champion"


def test_a_store_whose_state_is_lost_begins_a_history_with_its_champion(
    store: ModelStore, objects
) -> None:
    for number in (1, 2):
        stage_and_promote(store, f"run-{number}", test_correct=9, test_total=10)
    del objects[objects.state_file()]
    (only,) = store.history().swaps
    assert (only.generation, only.version, only.test_correct) == (2, "run-2", 9)
    assert store.kept() == ["run-2", "run-1"]
    stage_and_promote(store, "run-3")
    assert [(s.generation, s.version) for s in store.history().swaps] == [
        (2, "run-2"),
        (3, "run-3"),
    ]


def test_versions_from_before_a_lost_history_are_not_removed(backend, objects) -> None:
    store = ModelStore(backend, "mnist", keep_versions=1)
    for number in range(4):
        stage_and_promote(store, f"run-{number}")
        del objects[objects.state_file()]
    for number in range(4, 7):
        stage_and_promote(store, f"run-{number}")
    # Of the four that the history tells of, run-4 is neither recent nor the best.
    assert store.kept() == ["run-6", "run-5", "run-3", "run-2", "run-1", "run-0"]
    assert objects.versions() == store.kept()[::-1]


def test_a_pointer_that_is_lost_after_the_first_promotion_does_not_look_like_the_first_night(
    store: ModelStore, objects
) -> None:
    stage_and_promote(store, "run-1")
    del objects[objects.state_file()]
    stage_and_promote(store, "run-2")
    # One state alone, of a second promotion: the first was lost with the history before.
    del objects["champion.json"]
    with pytest.raises(DamagedStateError, match="expected a pointer after 2 swaps, found none"):
        store.champion()


def test_a_first_promotion_that_a_crash_cut_short_leaves_no_champion_and_nothing_in_the_way(
    store: ModelStore, objects
) -> None:
    stage_and_promote(store, "run-1")
    del objects["champion.json"]
    assert store.champion() is None
    assert store.history().swaps == ()
    assert store.give_up("run-1") is None
    assert stage_and_promote(store, "run-2").generation == 1
    assert objects.versions() == ["run-2"]


def test_a_damaged_state_is_named_with_the_way_out_and_hides_no_champion(
    store: ModelStore, backend, objects
) -> None:
    stage_and_promote(store, "run-1")
    file = objects.state_file()
    path = re.escape(f"{backend}/mnist/{file}")
    sound = objects[file]
    for content in (
        b"{", b"[]", b"null", b'{"swaps": [{"generation": 1}]}', b"\xff", b"[" * 100_000,
        sound.replace(b'"generation": 1', b'"generation": "1"'),
        sound.replace(b'"test_total": null', b'"test_total": "ten"'),
        sound.replace(b"+00:00", b""),
        sound.replace(b'"given_up": []', b'"given_up": [7]'),
    ):  # fmt: skip
        assert content != sound
        objects[file] = content
        with pytest.raises(DamagedStateError, match=rf"^{path}: expected .* move it"):
            store.history()
        assert store.read_champion()[1].name == "run-1"
        assert store.kept() == ["run-1"]
    del objects[file]
    assert len(store.history().swaps) == 1


def test_only_what_a_rollback_may_need_is_kept(backend, objects) -> None:
    store = ModelStore(backend, "mnist", keep_versions=2)
    stage_and_promote(store, "run-0", test_correct=9, test_total=10)
    for number in range(1, 6):
        stage_and_promote(store, f"run-{number}", test_correct=5, test_total=10)
    # The champion, two before it, and the best ever.
    assert store.kept() == ["run-5", "run-4", "run-3", "run-0"]
    assert objects.versions() == store.kept()[::-1]
    # What a killed process did not get to: the next swap does.
    objects["versions/run-2/model.tflite"] = CONTENT
    stage_and_promote(store, "run-6", test_correct=5, test_total=10)
    assert store.kept() == ["run-6", "run-5", "run-4", "run-0"]
    assert objects.versions() == store.kept()[::-1]
    assert len([key for key in objects.all() if key.startswith("states/")]) == 2


def test_the_same_weights_again_and_again_do_not_push_the_others_out(backend) -> None:
    store = ModelStore(backend, "mnist", keep_versions=1)
    stage_and_promote(store, "run-0")
    for number in range(1, 5):
        stage_and_promote(store, f"run-{number}", weights_digest="the same")
    assert "run-0" in store.kept()
    assert store.history().predecessor.version == "run-0"


def test_processes_that_promote_at_once_make_one_sequence_and_readers_see_whole_versions(
    folder_store: ModelStore, at_once: Callable[[str, str, Sequence[Sequence[object]]], list[str]]
) -> None:
    store = folder_store
    promoters, promotions = 3, 40
    names = [[f"{who}-{number}" for number in range(promotions)] for who in range(promoters)]
    digests = {
        name: store.stage(name, write_model, {"name": name}) for own in names for name in own
    }
    (store.folder / "digests.json").write_text(json.dumps(digests))
    prepare = (
        "import hashlib, time; from pathlib import Path\n"
        "from storage.models.backends import LocalFolder\n"
        "from storage.models.store import ModelStore\n"
        "import json\n"
        "store = ModelStore(LocalFolder(Path(sys.argv[1])), 'mnist', keep_versions=1000)\n"
        "digests = json.loads((store.folder / 'digests.json').read_text())"
    )
    work = f"""
if sys.argv[2] == 'read':
    seen = [0]
    deadline = time.monotonic() + 300
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
        swap = None
        while swap is None:
            swap = store.promote(name, digests[name], store.champion(), actor='', reason='')
        print(swap.generation, name)
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


def test_the_names_are_those_with_a_champion_or_a_trace_of_one(settings) -> None:
    assert store_names(settings) == []
    for name in ("in-use", "lost-pointer", "damaged", "given-up", "staged-only"):
        store = open_store(settings, name)
        if name == "given-up":
            store.give_up("run-1")
        elif name == "staged-only":
            store.stage("run-1", write_model, {})
        else:
            stage_and_promote(store, "run-1")
    (settings.models / "lost-pointer" / "champion.json").unlink()
    (settings.models / "damaged" / "champion.json").write_text("{")
    (settings.models / "a-stray-file").touch()
    assert store_names(settings) == ["damaged", "in-use", "lost-pointer"]


def test_a_store_opened_from_the_settings_keeps_as_many_versions_as_they_say(settings) -> None:
    store = open_store(replace(settings, keep_versions=1), "mnist")
    for number in range(4):
        stage_and_promote(store, f"run-{number}", test_correct=number, test_total=10)
    assert store.folder == settings.models / "mnist"
    assert store.kept() == ["run-3", "run-2"]
