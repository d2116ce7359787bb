"""`digits up` with everything real: server, worker, deployment, schedule."""

import signal
import socket
import sqlite3
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import psutil
import pytest

# A server, a worker and several runs each: minutes on a busy machine.
pytestmark = pytest.mark.timeout(1800)

PREFECT = str(Path(sys.executable).with_name("prefect"))


def ask(api_url: str, path: str, **body: object) -> list[dict]:
    """Read from the server's API, which wants a CSRF token of whoever posts."""
    client = "00000000-0000-0000-0000-000000000001"
    token = httpx.get(f"{api_url}/csrf-token", params={"client": client}).json()["token"]
    headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
    answer = httpx.post(f"{api_url}{path}", json=body, headers=headers).raise_for_status()
    found: list[dict] = answer.json()
    return found


def prefect(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PREFECT, *arguments],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_the_nightly_run_until_it_is_stopped(
    started, digits, environment, home, free_port, how
):
    api_url = f"http://127.0.0.1:{free_port}/api"
    profiles = Path(environment["PREFECT_HOME"]) / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text('active = "mine"\n[profiles.mine]\nPREFECT_LOGGING_LEVEL = "INFO"\n')
    up = started("up", "--port", str(free_port))
    up.wait_for("started!")
    assert f"UI        http://127.0.0.1:{free_port}" in up.output

    # The schedule is alive: the server itself has planned the next nights.
    deadline = time.monotonic() + 300
    planned: list[dict] = []
    while not planned and time.monotonic() < deadline:
        planned = ask(
            api_url, "/flow_runs/filter", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}}
        )
        time.sleep(0.5)
    assert planned, "no SCHEDULED run ever appeared for the cron deployment"
    assert all("T02:00:00" in run["expected_start_time"] for run in planned)

    # A second terminal needs no other set-up than the one that all users have.
    done = prefect(
        environment, "deployment", "run", "retrain/nightly",
        "-p", "dataset=mnist-5k", "-p", "epochs=2", "-p", "min_accuracy=0.5",
        "-p", "min_recall=0", "--watch",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished successfully in 'Promoted'" in done.stdout
    here = digits("retrain", "--dataset", "mnist-5k", "--epochs", "1", "--min-accuracy", "0.9999")
    assert here.returncode == 3, here.stderr
    assert f"Prefect server at {api_url}" in here.stderr

    rows = sqlite3.connect(home / "metrics.db")
    found = rows.execute("SELECT status, flow_run_id FROM runs ORDER BY started_at").fetchall()
    rows.close()
    assert [status for status, _ in found] == ["promoted", "rejected"]
    ids = [flow_run_id for _, flow_run_id in found]
    runs = ask(api_url, "/flow_runs/filter", flow_runs={"id": {"any_": ids}})
    assert {run["id"]: run["state_name"] for run in runs} == dict(
        zip(ids, ["Promoted", "Rejected"], strict=True)
    )
    logs = ask(api_url, "/logs/filter", logs={"flow_run_id": {"any_": [ids[0]]}})
    assert any(line["message"].startswith("epoch 2/2  loss") for line in logs)

    # Another page in the same browser can neither read nor start anything.
    foreign = {"Origin": "http://evil.example"}
    answer = httpx.get(f"{api_url}/health", headers=foreign)
    assert "access-control-allow-origin" not in answer.headers
    assert httpx.post(f"{api_url}/flow_runs/filter", json={}, headers=foreign).status_code == 403

    # Another `digits up` shares the server, and leaves it as it was.
    other = started("up")
    other.wait_for("started!")
    assert f"Using the Prefect server at {api_url}." in other.output
    assert other.stop(how) == 0
    assert httpx.get(f"{api_url}/health").text == "true"
    assert str(free_port) in profiles.read_text()

    children = psutil.Process(up.process.pid).children(recursive=True)
    assert children
    assert up.stop(how) == 0, up.output
    assert "Traceback" not in up.output
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert tomllib.loads(profiles.read_text())["active"] == "mine"
    assert str(free_port) not in profiles.read_text()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a killed parent's children")
def test_a_killed_up_leaves_no_server_and_the_next_one_restores_the_users_profile(
    started, environment, free_port
):
    profiles = Path(environment["PREFECT_HOME"]) / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text('active = "mine"\n[profiles.mine]\nPREFECT_LOGGING_LEVEL = "INFO"\n')
    up = started("up", "--port", str(free_port))
    up.wait_for("started!")
    children = psutil.Process(up.process.pid).children(recursive=True)

    up.stop(signal.SIGKILL)

    _, alive = psutil.wait_procs(children, timeout=300)
    assert not alive
    assert tomllib.loads(profiles.read_text())["active"] == "digits"
    again = started("up")
    again.wait_for("started!")
    assert f"UI        http://127.0.0.1:{free_port}" in again.output, "it starts where it was"
    assert again.stop(signal.SIGTERM) == 0
    assert tomllib.loads(profiles.read_text())["active"] == "mine"


@pytest.mark.slow
def test_of_several_late_nights_one_runs_and_stopping_ends_it(
    started, environment, home, free_port
):
    # A night off: the server has planned runs, and no worker is there to take them.
    api_url = f"http://127.0.0.1:{free_port}/api"
    first = started("up", "--port", str(free_port))
    first.wait_for("started!")
    (worker,) = [
        process
        for process in psutil.Process(first.process.pid).children()
        if "worker" in process.cmdline()
    ]
    worker.suspend()
    late = [
        prefect(
            environment, "deployment", "run", "retrain/nightly",
            "-p", "dataset=mnist-5k", "-p", "epochs=1000",
        ).returncode
        for _ in range(3)
    ]  # fmt: skip
    assert late == [0, 0, 0]
    time.sleep(2)
    worker.resume()

    deadline = time.monotonic() + 600
    states: list[str] = []
    while sorted(states) != ["Cancelled", "Cancelled", "Running"]:
        assert time.monotonic() < deadline, states
        time.sleep(1)
        runs = ask(
            api_url,
            "/flow_runs/filter",
            flow_runs={"state": {"type": {"not_any_": ["SCHEDULED"]}}},
        )
        states = [run["state_name"] for run in runs]
    # Who starts a run elsewhere sees it in this terminal too.
    first.wait_for("epoch    1/1000")

    children = psutil.Process(first.process.pid).children(recursive=True)
    assert first.stop(signal.SIGINT) == 0

    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    rows = sqlite3.connect(home / "metrics.db")
    assert rows.execute("SELECT DISTINCT status FROM runs").fetchall() == [("cancelled",)]
    rows.close()
    server = sqlite3.connect(Path(environment["PREFECT_HOME"]) / "prefect.db")
    running = server.execute("SELECT count(*) FROM flow_run WHERE state_type = 'RUNNING'")
    assert running.fetchone() == (0,)
    server.close()


@pytest.mark.slow
def test_up_on_a_port_that_is_taken_says_so(digits, free_port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port))
        taken.listen()
        done = digits("up", "--port", str(free_port))

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"expected port {free_port} to be free" in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"PREFECT_API_URL": "http://192.0.2.1.invalid:4200/api"},
            "expected a Prefect server at PREFECT_API_URL=",
        ),
        ({"PREFECT_API_URL": "http://host:port/api"}, "received no answer"),
        ({"DIGITS_HOME": "/proc/x", "PREFECT_API_URL": "http://127.0.0.1:1/api"}, "DIGITS_HOME"),
        ({"DIGITS_HOME": "~nosuch/x"}, "DIGITS_HOME: expected a folder"),
    ],
)
def test_up_rejects_unusable_settings_in_one_line(digits, settings, message):
    done = digits("up", **settings)

    assert done.returncode in {1, 2}
    (line,) = done.stderr.splitlines()
    assert message in line
