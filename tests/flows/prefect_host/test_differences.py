"""Which of prefect.yaml and the server decides each value of a deployment."""

from typing import Any

from flows.prefect_host.differences import changed_values

FILE: dict[str, Any] = {
    "description": "Retrains every night.",
    "tags": ["nightly"],
    "parameters": {"dataset": "mnist", "corrections": True},
    "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
    "work_pool": {"name": "digits", "job_variables": {"env": {"DIGITS_HOME": "/home/var"}}},
}
SERVER: dict[str, Any] = {
    "description": "Retrains every night.",
    "tags": ["nightly", "mine"],
    "parameters": {"dataset": "mnist-5k", "corrections": True, "epochs": 3},
    "global_concurrency_limit": {"limit": 2, "active_slots": 0},
    "concurrency_options": {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": None},
    "work_pool_name": "mine",
    "job_variables": {"env": {"DIGITS_HOME": "/home/var", "MINE": "1"}},
}


def test_while_the_file_stays_the_same_nothing_on_the_server_changes(capsys):
    assert changed_values(SERVER, FILE, FILE) == {}
    assert capsys.readouterr().out == ""


def test_a_line_that_changed_in_the_file_is_followed_and_said_and_the_others_stay(capsys):
    now = {**FILE, "parameters": {"dataset": "mnist", "margin": 0}}

    changed = changed_values(SERVER, FILE, now)

    assert changed == {"parameters": {"dataset": "mnist-5k", "epochs": 3, "margin": 0}}
    assert capsys.readouterr().out.splitlines() == [
        "  parameters.corrections: True -> not set",
        "  parameters.margin: not set -> 0",
    ]


def test_what_is_removed_from_the_file_is_removed_from_the_server():
    now = {name: FILE[name] for name in ("parameters", "work_pool")}
    assert changed_values(SERVER, FILE, now) == {
        "description": None,
        "tags": [],
        "concurrency_limit": None,
        "concurrency_options": None,
    }


def test_a_limit_that_changes_in_the_file_is_changed_on_the_server():
    now = {**FILE, "concurrency_limit": {"limit": 3, "collision_strategy": "CANCEL_NEW"}}
    assert changed_values(SERVER, FILE, now) == {
        "concurrency_limit": 3,
        "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
    }


def test_a_work_pool_that_changes_in_the_file_is_changed_on_the_server():
    now = {**FILE, "work_pool": {**FILE["work_pool"], "name": "other"}}
    assert changed_values(SERVER, FILE, now) == {"work_pool_name": "other"}


def test_the_home_of_the_installation_follows_it_whatever_the_file_said_before():
    before = {**SERVER, "job_variables": {"env": {"MINE": "1"}}}
    assert changed_values(before, FILE, FILE) == {
        "job_variables": {"env": {"MINE": "1", "DIGITS_HOME": "/home/var"}}
    }
