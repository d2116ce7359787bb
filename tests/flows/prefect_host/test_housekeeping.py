"""What `digits up` does when things die: real server, real worker, real kill -9."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PROJECT = Path(__file__).parents[3]
PREFECT = str(Path(sys.executable).with_name("prefect"))


def states(environment: dict[str, str]) -> list[tuple[str, str]]:
    """Name and type of the state of each run that is not planned for later, oldest first."""
    path = Path(environment["PREFECT_HOME"]) / "prefect.db"
    with closing(sqlite3.connect(path, timeout=30)) as server:
        return server.execute(
            "SELECT state_name, state_type FROM flow_run WHERE state_type <> 'SCHEDULED'"
            " ORDER BY expected_start_time"
        ).fetchall()


def events(environment: dict[str, str]) -> set[str]:
    path = Path(environment["PREFECT_HOME"]) / "prefect.db"
    with closing(sqlite3.connect(path, timeout=30)) as server:
        return {name for (name,) in server.execute("SELECT DISTINCT event FROM events")}


def statuses(home: Path) -> list[str]:
    """The status of each run that was not skipped, oldest first."""
    query = "SELECT status, reason FROM runs ORDER BY started_at"
    with closing(sqlite3.connect(home / "metrics.db", timeout=30)) as rows:
        return [s for s, why in rows.execute(query) if not (why or "").startswith("skipped: ")]


def wait_for(what, expected: str, timeout_s: float = 600) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, f"never came: {expected}"
        time.sleep(0.5)


def run_deployment(environment: dict[str, str], *parameters: str) -> None:
    given = [part for parameter in parameters for part in ("-p", parameter)]
    done = subprocess.run(
        [PREFECT, "deployment", "run", "retrain/nightly", "-p", "dataset=mnist-5k", *given],
        check=False, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def part_of(process: subprocess.Popen, word: str) -> psutil.Process:
    """The server, the worker or the run below `digits up`."""
    found = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any(word in argument for argument in child.cmdline())
    ]
    assert found, word
    return found[-1]


def test_a_run_that_is_killed_and_a_worker_that_is_killed_do_not_stop_the_night(
    started, digits, environment, home, free_port
):
    up = started("up", "--port", str(free_port), DIGITS_LEASE_S="8")
    up.wait_for("started!")

    run_deployment(environment, "epochs=1000")
    up.wait_for("epoch   10/1000")
    part_of(up.process, "prefect.engine").kill()
    wait_for(lambda: states(environment)[-1][1] == "CRASHED", "the killed run is Crashed")
    wait_for(lambda: statuses(home) == ["lost"], "its row is lost")

    part_of(up.process, "worker").kill()
    up.wait_for("starting another one")
    run_deployment(environment, "epochs=1", "min_accuracy=0.5", "min_recall=0")
    wait_for(lambda: states(environment)[-1][0] == "Promoted", "the next run is promoted")
    assert statuses(home) == ["lost", "promoted"]

    # And what a person does without Prefect, Prefect hears of.
    run_deployment(environment, "epochs=6", "min_accuracy=0.5", "min_recall=0")
    wait_for(lambda: statuses(home)[2:] == ["promoted"], "one more is promoted")
    assert digits("rollback", "--why", "it looks odd").returncode == 0
    wait_for(lambda: "model.rolled-back" in events(environment), "the rollback's event")

    children = psutil.Process(up.process.pid).children(recursive=True)
    assert up.stop(signal.SIGTERM) == 0, up.output
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert "Traceback" not in up.output


def test_a_run_that_is_killed_while_it_trains_goes_on_after_its_last_epoch_if_it_is_retried(
    started, environment, home, free_port
):
    up = started("up", "--port", str(free_port), DIGITS_LEASE_S="3")
    up.wait_for("started!")
    run_deployment(
        environment, "architecture=cnn", "epochs=30", "min_accuracy=0.5", "min_recall=0"
    )  # fmt: skip
    wait_for(lambda: [*home.glob("checkpoints/*/*.npz")], "a checkpoint, after ten seconds")
    part_of(up.process, "prefect.engine").kill()
    wait_for(lambda: statuses(home) == ["lost"], "its row is lost")
    # The worker sees the end some seconds later; a new attempt would be taken for this one.
    up.wait_for("prefect.flow_runs.worker - Check whether the flow run exceeded")

    with closing(sqlite3.connect(home / "metrics.db")) as rows:
        ((flow_run,),) = rows.execute("SELECT flow_run_id FROM runs").fetchall()
    done = subprocess.run(
        [PREFECT, "flow-run", "retry", flow_run],
        check=False, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    up.wait_for("the training goes on after epoch ")
    wait_for(lambda: statuses(home) == ["lost", "promoted"], "the retried run is promoted")
    with closing(sqlite3.connect(home / "metrics.db")) as rows:
        learning = rows.execute("SELECT architecture, epochs, seed FROM runs").fetchall()
        assert len(set(learning)) == 1, "the same training"
        epochs = rows.execute("SELECT count(*) FROM epochs").fetchall()
        assert epochs == [(30,)], "those before the kill are kept too"
    assert not [*home.glob("checkpoints/*")]
    assert up.stop(signal.SIGTERM) == 0


def test_a_run_that_was_stopped_for_longer_than_its_lease_goes_on_and_is_not_called_dead(
    started, environment, home, free_port
):
    up = started("up", "--port", str(free_port), DIGITS_LEASE_S="3")
    up.wait_for("started!")
    run_deployment(environment, "epochs=100", "min_accuracy=0.5", "min_recall=0")
    up.wait_for("epoch  10/100")
    run = part_of(up.process, "prefect.engine")
    run.suspend()
    time.sleep(10)
    assert statuses(home) == ["running"]
    run.resume()
    wait_for(lambda: statuses(home) == ["promoted"], "the run goes on")
    wait_for(lambda: states(environment)[-1][0] == "Promoted", "and Prefect shows it")
    assert "prefect.flow-run.Crashed" not in events(environment)
    assert up.stop(signal.SIGTERM) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a killed parent's children")
def test_up_killed_during_a_run_can_be_restarted_and_the_next_run_succeeds(
    started, environment, home, free_port
):
    up = started("up", "--port", str(free_port), DIGITS_LEASE_S="8")
    up.wait_for("started!")
    run_deployment(environment, "epochs=1000")
    up.wait_for("epoch   10/1000")
    children = psutil.Process(up.process.pid).children(recursive=True)
    up.process.kill()
    up.process.wait()
    _, alive = psutil.wait_procs(children, timeout=300)
    assert not alive, "they end with it"

    again = started("up", "--port", str(free_port), DIGITS_LEASE_S="8")
    again.wait_for("started!")
    wait_for(lambda: all(kind != "RUNNING" for _, kind in states(environment)), "none is Running")
    wait_for(lambda: statuses(home)[0] in {"lost", "cancelled"}, "its row is closed")
    run_deployment(environment, "epochs=2", "min_accuracy=0.5", "min_recall=0")
    wait_for(lambda: states(environment)[-1][0] == "Promoted", "no slot is held")
    assert statuses(home)[1:] == ["promoted"]
    assert again.stop(signal.SIGTERM) == 0


@pytest.fixture
def short_days(tmp_path: Path) -> Path:
    """The project with a night every 20 seconds, and runs that take long."""
    folder = tmp_path / "project"
    ignored = shutil.ignore_patterns(".git", ".venv", "var", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, folder, ignore=ignored)
    path = folder / "prefect.yaml"
    text = path.read_text()
    text = text.replace('cron: "0 2 * * *"\n        timezone: UTC', "interval: 20")
    assert "interval: 20" in text
    text = text.replace("dataset: mnist\n", "dataset: mnist-5k\n      epochs: 1000\n")
    path.write_text(text)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="kills by what /proc says")
def test_after_three_nights_off_one_run_catches_up_and_no_stale_run_is_shown_as_running(
    started, environment, home, free_port, short_days
):
    usual = {"PYTHONPATH": str(short_days), "DIGITS_LEASE_S": "20"}
    up = started("up", "--port", str(free_port), **usual)
    up.wait_for("epoch   10/1000", timeout_s=240)
    # The machine goes off: everything at once, without a word.
    for process in [*psutil.Process(up.process.pid).children(recursive=True), up.process]:
        process.kill()
    up.process.wait()
    assert "RUNNING" in {kind for _, kind in states(environment)}
    time.sleep(65)

    again = started("up", "--port", str(free_port), **usual)
    again.wait_for("epoch   10/1000")
    # Three or more late nights: one runs, and the others are cancelled as they come.

    def one_catches_up() -> bool:
        crashed, *later = [name for name, _ in states(environment)]
        count = Counter(later)
        return crashed == "Crashed" and count["Running"] == 1 and count["Cancelled"] >= 2

    wait_for(one_catches_up, "one run catches up")
    assert {name for name, _ in states(environment)} <= {
        "Crashed", "Running", "Cancelled", "Pending"
    }  # fmt: skip
    assert statuses(home) == ["lost", "running"]

    assert again.stop(signal.SIGTERM) == 0
    assert not [kind for _, kind in states(environment) if kind == "RUNNING"]
    assert statuses(home) == ["lost", "cancelled"]


def test_a_message_goes_out_when_a_night_is_rejected_or_fails(
    started, digits, environment, free_port, tmp_path
):
    received: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    hook = HTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=hook.serve_forever, daemon=True).start()
    up = started("up", "--port", str(free_port))
    up.wait_for("started!")
    try:
        for _ in range(2):  # said twice, it is one automation all the same
            done = digits("notify", f"http://127.0.0.1:{hook.server_port}/hook")
            assert done.returncode == 0, done.stderr
        wrong = digits("notify", "slack")
        assert wrong.returncode == 2
        assert "expected a URL" in wrong.stderr

        digits("retrain", "--dataset", "mnist-5k", "--epochs", "1", "--min-accuracy", "0.9999")
        wait_for(lambda: len(received) == 1, "a message of the rejected run")
        assert "model.rejected model of mnist-5k" in received[0]
        assert "required at least 0.9999" in received[0]

        broken = tmp_path / "broken"
        broken.mkdir()
        for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                     "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):  # fmt: skip
            (broken / name).write_bytes(b"\x00")
        digits("retrain", "--dataset", str(broken))
        wait_for(lambda: len(received) == 2, "a message of the failed run")
        assert "prefect.flow-run.Failed" in received[1]
        assert "IDX header" in received[1]
    finally:
        hook.shutdown()
        hook.server_close()
    assert up.stop(signal.SIGTERM) == 0


def test_without_a_server_notify_says_what_to_start(digits):
    done = digits("notify", "http://127.0.0.1:9/hook")
    assert done.returncode == 1
    assert "start `digits up` first" in done.stderr


def test_a_server_with_a_login_accepts_it_and_the_error_without_it_names_what_to_set(
    started, digits, free_port
):
    login = {"PREFECT_SERVER_API_AUTH_STRING": "anna:secret"}
    alone = digits("up", "--port", str(free_port), **login)
    assert alone.returncode == 1
    assert "expected PREFECT_API_AUTH_STRING to hold the login" in alone.stderr

    ours = {"PREFECT_API_AUTH_STRING": "anna:secret"}
    up = started("up", "--port", str(free_port), **login, **ours)
    up.wait_for("started!")
    run = ("retrain", "--dataset", "mnist-5k", "--epochs", "1", "--min-accuracy", "0.1")
    for arguments in (run, ("notify", "http://127.0.0.1:9/hook")):
        refused = digits(*arguments)
        assert refused.returncode == 1
        assert "expected PREFECT_API_AUTH_STRING to hold the login" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert digits(*run, "--min-recall", "0", **ours).returncode == 0
    assert up.stop(signal.SIGTERM) == 0
