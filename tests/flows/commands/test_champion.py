"""`digits champion` and `digits rollback`, as a user calls them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows.commands.rollback import PATIENCE_S
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from storage.tables.database import open_database


@pytest.fixture
def store(home: Path, tiny_model) -> ModelStore:
    """Three champions of mnist after one another."""
    return three(home, tiny_model, "mnist")


def three(home: Path, tiny_model, dataset: str) -> ModelStore:
    store = ModelStore(LocalFolder(home / "models"), dataset)
    for number in range(3):
        origin = {"weights_digest": f"w{number}", "test_correct": 97 + number, "test_total": 100}
        digest = store.stage(f"run-{number}", tiny_model, origin)
        store.promote(f"run-{number}", digest, store.champion(), actor="retrain", reason="good")
    return store


def shown(text: str) -> dict[str, str]:
    """The table of one champion, by its first column."""
    return {line[:19].strip(): line[19:].strip() for line in text.splitlines()}


def test_before_the_first_champion_it_says_what_to_do(digits, home):
    done = digits("champion")
    assert done.returncode == 0
    assert "No champion yet. Train one: digits retrain" in done.stderr
    assert json.loads(digits("champion", "--json").stdout) == []
    missing = digits("champion", "--dataset", "mnist")
    assert missing.returncode == 1
    assert missing.stderr == "Error: expected a champion of mnist, found none yet\n"
    nothing = digits("rollback")
    assert nothing.returncode == 1
    assert "found none yet; train one: digits retrain" in nothing.stderr
    assert not home.exists()


def test_the_champion_is_shown_with_its_accuracy_and_where_a_rollback_leads(digits, store):
    table = shown(digits("champion").stdout)
    assert (table["version"], table["generation"]) == ("run-2", "3")
    assert table["test accuracy"] == "0.9900 (99 of 100 correct)"
    assert table["by"] == "promotion, retrain: good"
    assert table["files"].endswith("versions/run-2, digests match")
    assert table["rollback leads to"] == "run-1"
    assert table["kept"] == "run-2, run-1, run-0"
    entry = json.loads(digits("champion", "--dataset", "mnist", "--json").stdout)
    assert (entry["version"], entry["rollback_leads_to"], entry["problem"]) == (
        "run-2", "run-1", None,
    )  # fmt: skip


def test_several_champions_are_a_line_each_and_a_rollback_asks_which(
    digits, home, store, tiny_model
):
    three(home, tiny_model, "other")
    lines = digits("champion").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["mnist", "run-2"], ["other", "run-2"]]
    which = digits("rollback")
    assert which.returncode == 1
    assert "expected --dataset with one of mnist, other" in which.stderr
    assert digits("rollback", "--dataset", "other").returncode == 0
    assert store.champion().version == "run-2"


def test_a_damaged_champion_is_reported_with_a_way_out(digits, store):
    path = store.version("run-2") / "model.tflite"
    path.write_bytes(path.read_bytes()[:-1])

    done = digits("champion")

    assert done.returncode == 1
    assert "model.tflite: expected the SHA-256" in done.stderr
    assert "`digits rollback --dataset mnist`" in done.stderr
    assert "Traceback" not in done.stderr
    assert digits("rollback").returncode == 0
    assert digits("champion").returncode == 0


def test_rolling_back_twice_goes_further_back_with_reasons_that_stay(digits, store):
    once = digits("rollback", "--why", "takes my 1 for a 7")
    assert once.returncode == 0, once.stderr
    assert "INFO" not in once.stderr
    assert shown(once.stdout)["version"] == "run-1"
    assert shown(once.stdout)["by"].endswith(": takes my 1 for a 7")
    assert shown(digits("rollback").stdout)["version"] == "run-0"
    end = digits("rollback")
    assert end.returncode == 1
    assert "choose one with --to RUN" in end.stderr
    assert [swap.version for swap in store.history().swaps][3:] == ["run-1", "run-0"]


def test_to_a_version_by_name(digits, store):
    assert shown(digits("rollback", "--to", "run-0").stdout)["version"] == "run-0"
    same = digits("rollback", "--to", "run-0")
    assert same.returncode == 2
    assert "expected another version than the champion" in same.stderr
    unknown = digits("rollback", "--to", "run-9")
    assert unknown.returncode == 1
    assert "(run-2, run-1, run-0), received 'run-9'" in unknown.stderr


def test_a_rollback_needs_no_database_and_is_in_the_table_afterwards(digits, home, store):
    assert digits("rollback").returncode == 0
    assert not (home / "metrics.db").exists()

    (home / "metrics.db").write_text("no database " * 1000)
    done = digits("rollback")
    assert done.returncode == 0
    assert "The next run updates the table of promotions" in done.stderr
    assert store.champion().version == "run-0"

    (home / "metrics.db").unlink()
    open_database(f"sqlite:///{home / 'metrics.db'}").dispose()
    assert digits("rollback", "--to", "run-2").returncode == 0
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        found = sql.execute("SELECT generation, version, kind FROM promotions ORDER BY 1")
        assert [row[1] for row in found] == ["run-0", "run-1", "run-2", "run-1", "run-0", "run-2"]


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg2://digits:hunter2@127.0.0.1:1/metrics", "no URL at all"]
)
def test_a_rollback_succeeds_even_if_the_database_is_unreachable(digits, store, url):
    done = digits("rollback", "--json", DIGITS_DATABASE_URL=url)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == store.champion().version == "run-1"
    (line,) = done.stderr.splitlines()
    assert "The next run updates the table of promotions" in line
    assert "hunter2" not in line


def test_a_rollback_waits_five_seconds_for_a_locked_table_then_leaves_it_for_the_next_run(
    digits, home, store
):
    path = home / "metrics.db"
    open_database(f"sqlite:///{path}").dispose()
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.execute("BEGIN EXCLUSIVE")
        done = digits("rollback")
    assert PATIENCE_S == 5
    assert done.returncode == 0, done.stderr
    assert "The next run updates the table of promotions" in done.stderr


def test_a_damaged_history_is_reported_with_a_way_out_that_works(digits, store):
    (path,) = (store.folder / "states").glob("00000003-*.json")
    path.write_text("{\n")
    done = digits("champion")
    assert done.returncode == 1
    assert ".json: expected JSON with swaps, kept and given_up" in done.stderr
    assert "`digits rollback" not in done.stderr, "which needs the history too"
    path.unlink()
    assert shown(digits("champion").stdout)["version"] == "run-2"


@pytest.mark.parametrize("place", ["", "models"])
def test_a_file_in_place_of_a_folder_is_an_error_not_an_empty_store(digits, home, place):
    (home / place).parent.mkdir(exist_ok=True)
    (home / place).write_text("a file")

    done = digits("champion")

    assert done.returncode == 1
    assert (
        f"the model store {home}/models cannot be used: [Errno 20] Not a directory" in done.stderr
    )


def test_without_its_pointer_a_store_with_a_history_is_damaged_not_new(digits, store):
    # Not the state that a crash in the first promotion leaves: three swaps have happened.
    (store.folder / "champion.json").unlink()
    done = digits("champion", "--dataset", "mnist")
    assert done.returncode == 1
    assert "none yet" not in done.stderr
    mended = digits("rollback", "--dataset", "mnist", "--to", "run-2")
    assert mended.returncode == 0, mended.stderr
    assert store.champion().generation == 4


def test_a_damaged_pointer_is_repaired_by_naming_a_version(digits, store):
    (store.folder / "champion.json").write_text("{")
    done = digits("champion")
    assert done.returncode == 1
    assert "`digits rollback --to RUN` writes a new one" in done.stderr
    assert shown(digits("rollback", "--to", "run-2").stdout)["version"] == "run-2"


def test_a_rollback_loads_neither_tensorflow_nor_prefect(environment, store, digits):
    # What would import them fails at once.
    blocked = store.folder.parent.parent / "blocked"
    for package in ("tensorflow", "keras", "prefect"):
        (blocked / package).mkdir(parents=True)
        (blocked / package / "__init__.py").write_text("raise SystemExit('not this one')")
    done = digits("rollback", PYTHONPATH=str(blocked))
    assert done.returncode == 0, done.stderr
    assert digits("champion", PYTHONPATH=str(blocked)).returncode == 0
