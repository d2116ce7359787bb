"""A store of a release without states, which kept its history in ``history.jsonl``."""

import json
import re
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import pytest

from storage.errors import DamagedStateError
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from storage.records import SwapKind


@pytest.fixture
def old(backend, objects, tiny_model) -> ModelStore:
    """Three champions after one another, in the files of that release."""
    store = ModelStore(backend, "mnist")
    for number in range(3):
        stage_and_promote(store, tiny_model, f"run-{number}")
    swaps = [asdict(swap) for swap in store.history().swaps]
    lines = [json.dumps(swap, default=datetime.isoformat) for swap in swaps]
    objects["history.jsonl"] = ("\n".join(lines) + "\n").encode()
    pointer = json.loads(objects["champion.json"])
    del pointer["state"]
    objects["champion.json"] = json.dumps(pointer, indent=2).encode()
    for key in [key for key in objects.all() if key.startswith("states/")]:
        del objects[key]
    return store


def stage_and_promote(store: ModelStore, tiny_model, run: str) -> None:
    digest = store.stage(run, tiny_model, {"weights_digest": run})
    assert store.promote(run, digest, store.champion(), actor="test", reason="")


def generations(store: ModelStore) -> list[int]:
    return [swap.generation for swap in store.history().swaps]


def carried_over(objects) -> bool:
    return "history.jsonl" not in objects.all() and "state" in json.loads(objects["champion.json"])


def test_it_is_read_as_it_is_and_reading_changes_nothing(old: ModelStore, objects) -> None:
    before = objects.all()
    assert old.champion().version == old.read_champion()[0].version == "run-2"
    assert [swap.version for swap in old.history().swaps] == ["run-0", "run-1", "run-2"]
    assert old.history().predecessor.version == "run-1"
    assert old.kept() == ["run-2", "run-1", "run-0"]
    assert objects.all() == before
    assert "history.jsonl" in before


def test_the_next_promotion_carries_it_over(old: ModelStore, objects, tiny_model) -> None:
    swaps = old.history().swaps
    stage_and_promote(old, tiny_model, "run-3")
    assert carried_over(objects)
    assert old.history().swaps[:3] == swaps
    assert generations(old) == [1, 2, 3, 4]
    assert old.kept() == ["run-3", "run-2", "run-1", "run-0"]


def test_a_rollback_carries_it_over(old: ModelStore, objects) -> None:
    assert old.rollback(None, actor="anna", reason="").version == "run-1"
    assert carried_over(objects)
    assert generations(old) == [1, 2, 3, 4]
    assert old.rollback("run-2", actor="anna", reason="").generation == 5


def test_giving_up_a_run_carries_it_over(old: ModelStore, objects) -> None:
    assert old.give_up("run-1").generation == 2
    assert not carried_over(objects), "a run that was promoted is not given up"
    assert old.give_up("dead") is None
    assert carried_over(objects)
    assert (old.champion().version, generations(old)) == ("run-2", [1, 2, 3])


def test_a_crash_while_it_is_carried_over_leaves_one_truth(
    old: ModelStore, objects, tiny_model
) -> None:
    history = objects["history.jsonl"]
    stage_and_promote(old, tiny_model, "run-3")
    objects["history.jsonl"] = history  # the pointer has moved, the old file is still there
    assert generations(old) == [1, 2, 3, 4]
    del objects["champion.json"]
    assert old.rollback("run-2", actor="anna", reason="").generation == 5
    assert generations(old) == [1, 2, 3, 4, 5]


def test_a_history_line_without_its_pointer_move_did_not_happen(
    old: ModelStore, objects, tiny_model
) -> None:
    lines = objects["history.jsonl"].splitlines()
    never = json.loads(lines[-1]) | {"generation": 4, "version": "run-9"}
    objects["history.jsonl"] += json.dumps(never).encode()
    assert generations(old) == [1, 2, 3]
    stage_and_promote(old, tiny_model, "run-3")
    assert [swap.version for swap in old.history().swaps][2:] == ["run-2", "run-3"]


def test_a_damaged_history_is_named_with_the_way_out_and_hides_no_champion(
    old: ModelStore, backend, objects
) -> None:
    path = re.escape(f"{backend}/mnist/history.jsonl")
    for content in (b"{", b"[]", b"null", b'{"generation": 1}', b"\xff"):
        objects["history.jsonl"] = content
        with pytest.raises(DamagedStateError, match=rf"^{path}: expected .* move it"):
            old.history()
        assert old.read_champion()[1].name == "run-2"
    del objects["history.jsonl"]
    (only,) = old.history().swaps
    assert (only.generation, only.version, only.kind) == (3, "run-2", SwapKind.PROMOTION)
    assert old.rollback("run-0", actor="anna", reason="").generation == 4


@pytest.mark.parametrize("content", [None, b"{"])
def test_a_lost_or_damaged_pointer_is_replaced_by_a_rollback(
    old: ModelStore, objects, content: bytes | None
) -> None:
    if content is None:
        del objects["champion.json"]
    else:
        objects["champion.json"] = content
    with pytest.raises(DamagedStateError, match="`digits rollback --to RUN` writes a new one"):
        old.champion()
    assert old.rollback("run-2", actor="anna", reason="").generation == 4
    assert generations(old) == [1, 2, 3, 4]
    assert carried_over(objects)


FIRST, SECOND, THIRD = "20261125-025104-66a356", "20261125-025129-e6eb98", "20261125-025331-c9f436"


def test_a_store_of_release_7107ce4_has_the_same_champion_and_goes_on(
    release_home: Path, tiny_model
) -> None:
    store = ModelStore(LocalFolder(release_home / "models"), "fonts")
    pointer, version = store.read_champion()
    assert (pointer.generation, pointer.version, version.name) == (4, SECOND, SECOND)
    swaps = store.history().swaps
    assert [(s.version, str(s.kind), s.actor) for s in swaps] == [
        (FIRST, "promotion", "retrain"),
        (SECOND, "promotion", "retrain"),
        (THIRD, "promotion", "retrain"),
        (SECOND, "rollback", "anna@digits"),
    ]
    assert store.kept() == [THIRD, SECOND, FIRST]

    assert store.rollback(None, actor="test", reason="").version == FIRST
    assert store.rollback(THIRD, actor="test", reason="").generation == 6
    stage_and_promote(store, tiny_model, "20301231-000000-abcdef")
    assert store.history().swaps[:4] == swaps
    assert generations(store) == [1, 2, 3, 4, 5, 6, 7]
    assert store.kept() == ["20301231-000000-abcdef", THIRD, SECOND, FIRST]
    assert not (store.folder / "history.jsonl").exists()
