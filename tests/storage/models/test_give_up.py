"""A run that seems dead is given up: from then on it is never promoted."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from storage.errors import ModelStoreError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore


def write(folder: Path) -> None:
    (folder / "model.tflite").write_bytes(b"weights")


def promoted(store: ModelStore, run_id: str) -> None:
    digest = store.stage(run_id, write, {"weights_digest": run_id})
    assert store.promote(run_id, digest, store.champion(), actor="test", reason="")


def test_a_run_that_was_given_up_is_not_promoted_and_the_champion_stays(store: ModelStore) -> None:
    promoted(store, "run-1")
    champion = store.champion()
    digest = store.stage("run-2", write, {})
    assert store.give_up("run-2") is None
    assert store.give_up("run-2") is None, "twice is the same as once"
    with pytest.raises(ModelStoreError, match="run-2 was given up as lost; the champion stays"):
        store.promote("run-2", digest, champion, actor="test", reason="")
    assert store.champion() == champion
    assert [swap.generation for swap in store.history().swaps] == [1]


def test_a_run_that_was_promoted_is_not_given_up(store: ModelStore, objects) -> None:
    promoted(store, "run-1")
    promoted(store, "run-2")
    before = objects.all()
    swap = store.give_up("run-1")
    assert swap is not None
    assert (swap.version, swap.generation) == ("run-1", 1)
    assert objects.all() == before


def test_a_run_can_be_given_up_before_there_is_a_champion(store: ModelStore, objects) -> None:
    assert store.give_up("run-1") is None
    assert store.champion() is None
    assert store.read_champion() is None
    assert store.history().swaps == ()
    digest = store.stage("run-1", write, {})
    with pytest.raises(ModelStoreError, match="given up"):
        store.promote("run-1", digest, None, actor="test", reason="")
    promoted(store, "run-2")
    assert store.champion().generation == 1
    assert json.loads(objects[objects.state_file()])["given_up"] == ["run-1"]


def test_only_the_last_hundred_are_remembered(store: ModelStore, objects) -> None:
    promoted(store, "run-1")
    for number in range(103):
        store.give_up(f"dead-{number}")
    remembered = json.loads(objects[objects.state_file()])["given_up"]
    assert remembered == [f"dead-{number}" for number in range(3, 103)]
    assert len([key for key in objects.all() if key.startswith("states/")]) == 1


def test_a_run_given_up_between_its_check_and_its_swap_is_not_promoted(
    store: ModelStore, backend, objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(store, "run-1")
    champion = store.champion()
    digest = store.stage("run-2", write, {})
    publish = backend.publish

    def late(folder: Path, key: str) -> None:
        publish(folder, key)
        store.give_up("run-2")

    monkeypatch.setattr(backend, "publish", late)
    assert store.promote("run-2", digest, champion, actor="test", reason="") is None
    monkeypatch.undo()
    with pytest.raises(ModelStoreError):
        store.promote("run-2", digest, champion, actor="test", reason="")
    assert store.champion() == champion
    assert objects.versions() == ["run-1"]


PREPARE = """
import json
from pathlib import Path
from storage.errors import ModelStoreError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
"""
RACE = """
store = ModelStore(LocalFolder(Path(sys.argv[1])), "mnist", keep_versions=1000)
digests, answers = json.loads(Path(sys.argv[3]).read_text()), []
for run, digest in digests.items():
    if sys.argv[2] == "recovery":
        answers.append(store.give_up(run) is None)
    else:
        try:
            while not store.promote(run, digest, store.champion(), actor="", reason=""):
                pass
            answers.append(True)
        except ModelStoreError:
            answers.append(False)
print(json.dumps(answers))
"""


def test_a_run_that_only_seems_dead_is_never_both_given_up_and_promoted(
    tmp_path: Path, at_once: Callable[[str, str, Sequence[Sequence[object]]], list[str]]
) -> None:
    store = ModelStore(LocalFolder(tmp_path / "models"), "mnist", keep_versions=1000)
    digests = {f"run-{n}": store.stage(f"run-{n}", write, {}) for n in range(100)}
    file = tmp_path / "digests.json"
    file.write_text(json.dumps(digests))

    answers = at_once(
        PREPARE, RACE, [[store.folder.parent, who, file] for who in ("recovery", "run")]
    )

    given_up, was_promoted = map(json.loads, answers)
    assert [a != b for a, b in zip(given_up, was_promoted, strict=True)] == [True] * 100
    expected = [run for run, yes in zip(digests, was_promoted, strict=True) if yes]
    assert [swap.version for swap in store.history().swaps] == expected
    print(f"{sum(given_up)} given up, {sum(was_promoted)} promoted")


def test_with_every_third_answer_lost_each_swap_happens_exactly_once(memory) -> None:
    chance, lost = random.Random(0), []

    def lose() -> bool:
        lost.append(chance.random() < 1 / 3)
        return lost[-1]

    memory.lose_answer = lose
    store = ModelStore(memory, "mnist", keep_versions=2)
    for number in range(60):
        promoted(store, f"run-{number}")
        assert store.give_up(f"dead-{number}") is None
    history = store.history().swaps
    assert [swap.version for swap in history] == [f"run-{number}" for number in range(60)]
    assert [swap.generation for swap in history] == list(range(1, 61))
    assert sum(lost) > 20


def test_a_swap_with_a_lost_answer_counts_even_if_another_swap_follows(memory) -> None:
    store = ModelStore(memory, "mnist")

    def overtaken() -> bool:
        memory.lose_answer = lambda: False
        promoted(store, "run-2")
        return True

    memory.lose_answer = overtaken
    promoted(store, "run-1")
    assert [swap.version for swap in store.history().swaps] == ["run-1", "run-2"]


def test_a_swap_that_another_overtook_is_not_taken_for_ones_own(memory, monkeypatch) -> None:
    store = ModelStore(memory, "mnist")
    digest = store.stage("run-1", write, {})
    compare_and_swap = memory.compare_and_swap

    def late(*arguments) -> bool:
        monkeypatch.undo()
        promoted(store, "run-2")
        return compare_and_swap(*arguments)

    monkeypatch.setattr(memory, "compare_and_swap", late)
    assert store.promote("run-1", digest, None, actor="test", reason="") is None
    assert [swap.version for swap in store.history().swaps] == ["run-2"]
    assert store.candidate("run-1").is_dir(), "it can be compared again"
    assert memory.names("mnist/versions") == ["run-2"]
