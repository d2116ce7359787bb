"""`digits up` with everything real: server, worker, deployment, schedule."""

import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

PREFECT = str(Path(sys.executable).with_name("prefect"))


def ask(api_url: str, path: str, **body: object) -> list[dict]:
    """Read from the server's API, which wants a CSRF token of whoever posts."""
    client = "00000000-0000-0000-0000-000000000001"
    token = httpx.get(f"{api_url}/csrf-token", params={"client": client}).json()["token"]
    headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
    answer = httpx.post(f"{api_url}{path}", json=body, headers=headers).raise_for_status()
    found: list[dict] = answer.json()
    return found


def read_until(process: subprocess.Popen[str], text: str) -> str:
    seen = ""
    assert process.stdout is not None
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} was never printed:\n{seen}")


def prefect(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PREFECT, *arguments],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_the_nightly_until_it_is_told_to_stop(
    started, digits, environment, home, free_port, how
):
    api_url = f"http://127.0.0.1:{free_port}/api"
    up = started("up", "--port", str(free_port))
    assert f"http://127.0.0.1:{free_port}" in read_until(up, "Ctrl-C")

    # The schedule is alive: the server itself has planned the next nights.
    deadline = time.monotonic() + 60
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
        "-p", "dataset=mnist-5k", "-p", "epochs=2", "-p", "min_accuracy=0.5", "--watch",
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

    children = psutil.Process(up.pid).children(recursive=True)
    assert children
    up.send_signal(how)
    up.wait(30)
    assert up.returncode == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    profiles = (Path(environment["PREFECT_HOME"]) / "profiles.toml").read_text()
    assert str(free_port) not in profiles


@pytest.mark.slow
def test_only_one_nightly_runs_at_a_time_and_stopping_ends_it(
    started, environment, home, free_port
):
    api_url = f"http://127.0.0.1:{free_port}/api"
    up = started("up", "--port", str(free_port))
    read_until(up, "started!")
    for _ in range(2):
        done = prefect(
            environment, "deployment", "run", "retrain/nightly",
            "-p", "dataset=mnist-5k", "-p", "epochs=1000",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    deadline = time.monotonic() + 90
    states: list[str] = []
    while sorted(states) != ["Cancelled", "Running"] and time.monotonic() < deadline:
        time.sleep(1)
        runs = ask(
            api_url,
            "/flow_runs/filter",
            flow_runs={"state": {"type": {"not_any_": ["SCHEDULED"]}}},
        )
        states = [run["state_name"] for run in runs]
    assert sorted(states) == ["Cancelled", "Running"]
    read_until(up, "epoch    1/1000")  # who starts a run elsewhere sees it in this terminal too

    children = psutil.Process(up.pid).children(recursive=True)
    up.send_signal(signal.SIGINT)
    up.wait(30)

    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    rows = sqlite3.connect(home / "metrics.db")
    assert rows.execute("SELECT status FROM runs").fetchall() == [("cancelled",)]
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


def test_a_server_elsewhere_that_does_not_answer_is_one_line(digits):
    done = digits("up", PREFECT_API_URL="http://192.0.2.1.invalid:4200/api")

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "expected a Prefect server at PREFECT_API_URL=" in line
