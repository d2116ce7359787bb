"""The command as a user runs it: a process of its own, with Prefect's embedded server."""

import json
import signal
import sqlite3
import time
from pathlib import Path

import psutil
import pytest

from tasks.data.idx import FILES

RECIPE = ["--dataset", "mnist-5k", "--epochs", "2", "--min-recall", "0", "--min-accuracy", "0.5"]


def query(home: Path, sql: str) -> list[tuple]:
    connection = sqlite3.connect(home / "metrics.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def servers_below(environment: dict[str, str]) -> list[psutil.Process]:
    """Processes of this test: those that were told its PREFECT_HOME."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT_HOME") == environment["PREFECT_HOME"]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def assert_no_server_is_left(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 120
    while servers_below(environment) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not servers_below(environment)


def test_a_first_retraining_shows_each_epoch_the_decision_and_what_to_type_next(
    digits, home, environment, tmp_path
):
    # Packages of the same names in the folder that the user stands in are not ours.
    for package in ("flows", "tasks", "storage"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()

    done = digits("retrain", *RECIPE)

    assert done.returncode == 0, done.stderr
    assert "epoch 1/2  loss" in done.stderr
    assert "epoch 2/2  loss" in done.stderr
    for noise in ("absl", "cuda", "Traceback", "oneDNN"):
        assert noise not in done.stderr
    ((run_id, status, correct),) = query(home, "SELECT run_id, status, test_correct FROM runs")
    assert status == "promoted"
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert f"({correct} of 1,000 correct)" in lines["test accuracy"]
    assert f"accuracy: {correct} of 1,000 correct (95% interval " in done.stdout
    assert "required at least 0.5 (500 correct)" in done.stdout
    assert "metrics.db, table runs" in lines["row"]
    assert f"models/mnist-5k/versions/{run_id} (generation 1)" in lines["model"]
    assert f"digits show {run_id}" in done.stdout
    assert_no_server_is_left(environment)

    assert f"{run_id}  promoted  mnist-5k" in digits("history").stdout
    shown = json.loads(digits("show", run_id, "--json").stdout)
    assert (shown["test_correct"], shown["test_total"]) == (correct, 1000)
    assert digits("show", run_id).stdout.startswith("run_id")

    prefect = sqlite3.connect(Path(environment["PREFECT_HOME"]) / "prefect.db")
    assert prefect.execute("SELECT name, state_name FROM flow_run").fetchall() == [
        (f"mlp on mnist-5k 0.{correct:03}0 {run_id}", "Promoted")
    ]
    states = prefect.execute("SELECT state_name FROM task_run").fetchall()
    assert states == [("Completed",)] * 16, "the server has heard of every task's end"
    logged = [message for (message,) in prefect.execute("SELECT message FROM log")]
    assert any(message.startswith("epoch 2/2  loss") for message in logged)
    prefect.close()


@pytest.mark.usefixtures("running_server")
def test_a_rejected_run_exits_with_3_and_prints_its_row_alone_as_json(digits, home):
    done = digits("retrain", *RECIPE[:-1], "0.9999", "--json")

    assert done.returncode == 3, done.stderr
    row = json.loads(done.stdout)
    assert row["status"] == "rejected"
    assert row["min_accuracy"] == 0.9999
    assert [rule["name"] for rule in row["rules"] if not rule["passed"]] == ["accuracy"]
    assert not (home / "models/mnist-5k/champion.json").exists()


@pytest.mark.slow
def test_the_command_has_its_own_defaults_whatever_the_champion_was_trained_with(digits, home):
    assert digits("retrain", *RECIPE, "--batch-size", "50").returncode == 0
    done = digits("retrain", "--dataset", "mnist-5k", "--json")

    row = json.loads(done.stdout)
    assert (row["epochs"], row["batch_size"], row["learning_rate"]) == (10, 128, 0.001)


@pytest.mark.slow
def test_without_a_network_it_tries_again_then_one_line_names_the_ways_out(digits, home):
    # A proxy that nobody answers at, for all but the embedded server.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")

    done = digits("retrain", **nowhere, no_proxy="127.0.0.1")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("the download failed") == 4, "one try and three more"
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "--dataset mnist-5k" in line
    assert "--dataset FOLDER" in line
    assert query(home, "SELECT status FROM runs") == [("failed",)]


@pytest.mark.usefixtures("running_server")
def test_a_run_that_fails_exits_with_1_and_one_line_and_its_row_says_why(digits, home, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for name in FILES.values():
        (folder / name).write_bytes(b"\x00\x00\x08")

    done = digits("retrain", "--dataset", str(folder), "--json")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    row = json.loads(done.stdout)
    assert row["status"] == "failed"
    assert row["reason"] in line
    assert "expected an IDX header of 16 bytes, received 3 bytes" in line
    assert query(home, "SELECT status, reason FROM runs") == [("failed", row["reason"])]


@pytest.mark.slow
def test_two_at_once_on_a_new_machine_both_finish(started, home):
    # Of the same seed, so that neither is worse than the other.
    both = [started("retrain", *RECIPE, "--seed", "1") for _ in range(2)]

    for one in both:
        assert one.process.wait(600) == 0, one.output
    generations = query(home, "SELECT generation FROM runs ORDER BY generation")
    assert generations == [(1,), (2,)]
    pointer = json.loads((home / "models/mnist-5k/champion.json").read_text())
    assert pointer["generation"] == 2
    version = home / "models/mnist-5k/versions" / pointer["version"]
    assert {path.name for path in version.iterdir()} == {
        "model.keras",
        "model.tflite",
        "golden.npz",
        "unsure.npz",
        "manifest.json",
    }


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_cancelled_and_leaves_no_process(started, home, environment, how):
    run = started("retrain", "--dataset", "mnist-5k", "--epochs", "1000")
    run.wait_for("epoch")

    assert run.stop(how) != 0
    assert "Traceback" not in run.output
    assert query(home, "SELECT status FROM runs") == [("cancelled",)]
    prefect = sqlite3.connect(Path(environment["PREFECT_HOME"]) / "prefect.db")
    assert prefect.execute("SELECT state_type FROM flow_run").fetchall() == [("CRASHED",)]
    prefect.close()
    assert_no_server_is_left(environment)


@pytest.mark.slow
def test_a_killed_run_is_lost_at_the_next_start_and_its_server_ends(
    started, digits, home, environment
):
    run = started("retrain", "--dataset", "mnist-5k", "--epochs", "1000", DIGITS_LEASE_S="2")
    run.wait_for("epoch")

    run.stop(signal.SIGKILL)
    time.sleep(3)  # longer than its lease
    assert_no_server_is_left(environment)
    assert query(home, "SELECT status FROM runs") == [("running",)]
    assert digits("retrain", *RECIPE).returncode == 0
    assert query(home, "SELECT status FROM runs ORDER BY started_at") == [("lost",), ("promoted",)]
