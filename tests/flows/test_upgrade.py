"""A home that the release of commit 7107ce4 left is carried on by this one.

tests/fixtures/make_release_home.py made it, with that release's own commands.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage import read_table

FIRST, SECOND, THIRD = "20261125-025104-66a356", "20261125-025129-e6eb98", "20261125-025331-c9f436"
DEAD = "20261125-025404-8ccc33"
RUNS = [  # newest first: id, status, generation, test images right
    (DEAD, "running", None, None),
    (THIRD, "promoted", 3, 132),
    ("20261125-025241-f1d092", "lost", None, None),
    ("20261125-025218-940250", "failed", None, None),
    ("20261125-025152-333c1c", "rejected", None, 100),
    (SECOND, "promoted", 2, 119),
    (FIRST, "promoted", 1, 86),
]
SWAPS = [
    (1, "promotion", FIRST, None, "retrain"),
    (2, "promotion", SECOND, FIRST, "retrain"),
    (3, "promotion", THIRD, SECOND, "retrain"),
    (4, "rollback", SECOND, THIRD, "anna@digits"),
]
ROWS = {
    "runs": 7, "promotions": 4, "corrections": 50, "epochs": 61, "digit_metrics": 40,
    "robustness": 0, "leaderboard": 4, "nightly": 1, "champions": 4,
}  # fmt: skip


def printed(done) -> object:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def swaps(home: Path) -> list[tuple]:
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        columns = "generation, kind, version, predecessor, actor"
        return sql.execute(f"SELECT {columns} FROM promotions ORDER BY generation").fetchall()  # noqa: S608


def test_history_and_show_read_the_earlier_runs(release_home, digits):
    history = printed(digits("history", "--json"))
    columns = ("run_id", "status", "generation", "test_correct")
    assert [tuple(run[column] for column in columns) for run in history] == RUNS
    assert {run["dataset"] for run in history} == {"fonts"}
    assert {run["source"] for run in history} == {"/srv/digits/fonts", "/srv/digits/without-nines"}

    run = printed(digits("show", THIRD, "--json"))
    assert (run["corrections_used"], run["field_total"], run["field_correct"]) == (38, 11, 8)
    assert (run["only_challenger_correct"], run["only_champion_correct"]) == (23, 10)
    assert (run["champion_version"], run["champion_rule"]) == (SECOND, "better")
    assert len(run["learning_curve"]) == 40
    assert sum(digit["correct"] for digit in run["digits"]) == 132
    assert digits("show", THIRD).returncode == 0


def test_the_champion_and_the_corrections_are_the_same(release_home, digits):
    (champion,) = printed(digits("champion", "--json"))
    assert champion["problem"] is None
    assert (champion["version"], champion["generation"]) == (SECOND, 4)
    assert (champion["kind"], champion["actor"]) == ("rollback", "anna@digits")
    assert champion["reason"] == "the third one misreads sevens"
    assert (champion["test_correct"], champion["test_total"]) == (119, 200)
    assert champion["rollback_leads_to"] == FIRST
    assert set(champion["kept"]) == {FIRST, SECOND, THIRD}
    assert swaps(release_home) == SWAPS

    assert len(printed(digits("corrections", "list", "--json"))) == 49
    everything = printed(digits("corrections", "list", "--revoked", "--json"))
    assert len(everything) == 50
    assert sum(row["revoked_at"] is not None for row in everything) == 1
    assert sum(row["version"] == SECOND for row in everything) == 30


@pytest.mark.parametrize(("name", "rows"), ROWS.items())
def test_each_table_and_view_is_read_as_a_frame(release_home, name, rows):
    assert len(read_table(name, f"sqlite:///{release_home}/metrics.db")) == rows


def test_a_rollback_goes_on_from_the_last_swap(release_home, digits):
    champion = printed(digits("rollback", "--json"))
    assert (champion["version"], champion["generation"]) == (FIRST, 5)
    assert [swap[:4] for swap in swaps(release_home)] == [
        *(swap[:4] for swap in SWAPS),
        (5, "rollback", FIRST, SECOND),
    ]


def test_a_new_run_closes_the_dead_one_and_is_compared_with_the_champion(
    release_home, digits, running_server
):
    candidate = release_home / "models" / "fonts" / "staging" / DEAD
    assert candidate.exists()

    done = digits(
        "retrain", "--dataset", str(release_home.parent / "fonts"), "--min-accuracy", "0.5",
        "--min-recall", "0", "--batch-size", "10", "--json",
    )  # fmt: skip

    run = printed(done)
    assert (run["status"], run["generation"]) == ("promoted", 5)
    assert (run["champion_version"], run["champion_correct"]) == (SECOND, 119)
    assert (run["test_uses"], run["pixel_drift"], run["label_drift"]) == (5, 0.0, 0.0)
    history = printed(digits("history", "--json"))
    assert [r["run_id"] for r in history] == [run["run_id"], *(run[0] for run in RUNS)]
    assert history[1]["status"] == "lost"
    assert not candidate.exists()
    assert swaps(release_home) == [*SWAPS, (5, "promotion", run["run_id"], SECOND, "retrain")]
    back = printed(digits("rollback", "--json"))
    assert (back["version"], back["generation"]) == (SECOND, 6)
