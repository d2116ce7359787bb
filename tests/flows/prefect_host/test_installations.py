"""What `digits up` leaves as a person set it, and two installations on one server."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolUpdate,
)
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PROJECT = Path(__file__).parents[3]
PREFECT = str(Path(sys.executable).with_name("prefect"))
NIGHT = ("-p", "dataset=mnist-5k", "-p", "epochs=2", "-p", "min_accuracy=0.5", "-p", "min_recall=0")


@pytest.fixture
def checkout(tmp_path: Path) -> Callable[[str], Path]:
    """Copy the project into a folder, as another checkout of it."""

    def copy(name: str) -> Path:
        ignored = shutil.ignore_patterns(".git", ".venv", "var", "__pycache__", ".*_cache")
        return Path(shutil.copytree(PROJECT, tmp_path / name, ignore=ignored))

    return copy


@pytest.fixture
def api(free_port: int):
    """A client of the server on the port."""
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port}/api"}),
        get_client(sync_client=True) as client,
    ):
        yield client


def wait_for(what: Callable[[], object], expected: str, timeout_s: float = 600) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, f"never came: {expected}"
        time.sleep(0.5)


def planned(api) -> list[tuple[str, str]]:
    """When runs are planned, and their states, in order."""
    runs = sorted(api.read_flow_runs(), key=lambda run: run.expected_start_time)
    return [(f"{run.expected_start_time:%m-%d %H:%M}", run.state.name) for run in runs]


def test_what_a_person_set_survives_a_restart_and_each_difference_is_printed(
    started, api, free_port, checkout
):
    folder = checkout("project")
    usual = {"PYTHONPATH": str(folder)}
    up = started("up", "--port", str(free_port), **usual)
    up.wait_for("started!")
    wait_for(lambda: len(planned(api)) >= 3, "planned nights")
    nightly = api.read_deployment_by_name("retrain/nightly")
    first = min(api.read_flow_runs(), key=lambda run: run.expected_start_time)
    api.set_flow_run_state(first.id, Cancelled(), force=True)
    values = DeploymentUpdate(parameters={**nightly.parameters, "epochs": 3})
    api.update_deployment(nightly.id, values)
    sundays = DeploymentScheduleCreate(schedule={"cron": "0 14 * * 0"}, active=True)
    api.create_deployment_schedules(nightly.id, [sundays])
    api.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    api.pause_deployment(nightly.id)
    api.update_work_pool("digits", WorkPoolUpdate(is_paused=True, concurrency_limit=2))
    assert up.stop(signal.SIGTERM) == 0

    again = started("up", "--port", str(free_port), **usual)
    again.wait_for("started!")

    assert "->" not in again.output, "nothing was changed"
    assert "updated" not in again.output
    for line in (
        "  work pool digits is paused: no night starts until it is resumed",
        "  nightly is paused: no night starts until it is resumed",
        "  parameters.epochs: 3 on the server is kept; not set in prefect.yaml",
        "  schedule: 0 2 * * * UTC (paused) on the server is kept; 0 2 * * * UTC in prefect.yaml",
        "  schedule: 0 14 * * 0 UTC on the server is kept; not set in prefect.yaml",
    ):
        assert line in again.output.splitlines()
    pool, found = api.read_work_pool("digits"), api.read_deployment_by_name("retrain/nightly")
    assert (pool.is_paused, pool.concurrency_limit, found.paused) == (True, 2, True)
    usual_ones = {"dataset": "mnist", "corrections": True, "robust": True}
    assert found.parameters == {**usual_ones, "epochs": 3}
    assert {s.schedule.cron: s.active for s in found.schedules} == {
        "0 2 * * *": False, "0 14 * * 0": True,
    }  # fmt: skip

    # Resumed, the other nights are planned, and the cancelled one is not.
    api.resume_deployment(found.id)
    api.update_deployment_schedule(found.id, nightly.schedules[0].id, active=True)
    wait_for(lambda: len(planned(api)) >= 6, "nights planned anew")
    night = f"{first.expected_start_time:%m-%d %H:%M}"
    assert [state for when, state in planned(api) if when == night] == ["Cancelled"]
    assert again.stop(signal.SIGTERM) == 0

    # A line of prefect.yaml that changes is followed; the rest stays a person's.
    path = folder / "prefect.yaml"
    text = path.read_text().replace("corrections: true", "corrections: true\n      margin: 0")
    path.write_text(text.replace('cron: "0 2 * * *"', 'cron: "30 1 * * *"'))
    last = started("up", "--port", str(free_port), **usual)
    last.wait_for("started!")
    assert "  parameters.margin: not set -> 0" in last.output.splitlines()
    assert "  schedule: 0 2 * * * UTC -> 30 1 * * * UTC" in last.output.splitlines()
    found = api.read_deployment_by_name("retrain/nightly")
    assert found.parameters["epochs"] == 3
    assert {schedule.schedule.cron for schedule in found.schedules} == {"30 1 * * *", "0 14 * * 0"}
    assert last.stop(signal.SIGTERM) == 0


def rows(home: Path) -> list[tuple[str, bool]]:
    """Status of each run, and whether its code came from the repository."""
    with closing(sqlite3.connect(home / "metrics.db", timeout=30)) as database:
        sql = "SELECT status, code_commit IS NOT NULL FROM runs ORDER BY started_at"
        return [(status, bool(commit)) for status, commit in database.execute(sql)]


def test_two_installations_on_one_server_keep_rows_models_and_code_apart_for_three_nights(
    started, environment, api, home, free_port, tmp_path, checkout
):
    received: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    other = checkout("other")
    theirs = tmp_path / "theirs"
    settings = {
        "HOME": str(theirs), "PREFECT_HOME": str(theirs / "prefect"),
        "DIGITS_HOME": str(theirs / "var"), "PYTHONPATH": str(other),
    }  # fmt: skip
    one = started("up", "--port", str(free_port))
    one.wait_for("started!")
    two = started("up", "--port", str(free_port), **settings)
    two.wait_for("started!")
    assert f"retrain/nightly belongs to {PROJECT} with DIGITS_HOME={home};" in two.output
    (name,) = {d.name for d in api.read_deployments()} - {"nightly"}
    assert f"deployment run retrain/{name} --watch" in two.output

    def night(*names: str) -> None:
        for deployment in names:
            command = [PREFECT, "deployment", "run", f"retrain/{deployment}", *NIGHT]
            subprocess.run(command, check=True, env=environment, capture_output=True)

    for number in range(1, 4):
        night("nightly", name)
        wait_for(
            lambda number=number: all(
                len(found) == number and "running" not in dict(found)
                for found in (rows(home), rows(theirs / "var"))
            ),
            f"night {number} of both",
        )
    in_git = (PROJECT / ".git").exists()
    assert {commit for _, commit in rows(home)} == {in_git}
    assert {commit for _, commit in rows(theirs / "var")} == {False}, "it ran the copy's code"
    for folder in (home, theirs / "var"):
        versions = {path.name for path in (folder / "models/mnist-5k/versions").iterdir()}
        with closing(sqlite3.connect(folder / "metrics.db")) as database:
            ids = {run for (run,) in database.execute("SELECT run_id FROM runs")}
        assert versions <= ids

    # A night whose code cannot even be imported has a row, and a message is sent.
    hook = HTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=hook.serve_forever, daemon=True).start()
    notify = [
        PREFECT.replace("prefect", "digits"),
        "notify",
        f"http://127.0.0.1:{hook.server_port}",
    ]
    subprocess.run(notify, check=True, env=environment, capture_output=True)
    (other / "flows/retrain.py").write_text("import no_such_module")
    night(name)
    wait_for(lambda: received, "a message of the crash", timeout_s=180)
    assert "prefect.flow-run.Crashed" in received[0]
    wait_for(lambda: len(rows(theirs / "var")) == 4, "a row of the crash", timeout_s=180)
    assert rows(theirs / "var")[-1] == ("failed", False)
    hook.shutdown()
    hook.server_close()

    # And what the one leaves behind does not touch the other.
    assert two.stop(signal.SIGTERM) == 0
    shutil.rmtree(other)
    shutil.rmtree(theirs)
    night("nightly")
    wait_for(lambda: len(rows(home)) == 4 and "running" not in dict(rows(home)), "a fourth night")
    assert {status for status, _ in rows(home)} <= {"promoted", "rejected"}
    assert one.stop(signal.SIGTERM) == 0


def test_a_deployment_whose_folder_is_gone_is_taken_over(started, api, free_port, checkout):
    folder = checkout("first")
    up = started("up", "--port", str(free_port), PYTHONPATH=str(folder))
    up.wait_for("started!")
    moved = folder.rename(folder.with_name("moved"))
    assert up.stop(signal.SIGTERM) == 0

    again = started("up", "--port", str(free_port), PYTHONPATH=str(moved))
    again.wait_for("started!")

    assert f"belongs to {folder} with DIGITS_HOME=" in again.output
    assert "which is gone; this installation takes it over." in again.output
    assert f"{folder}" in again.output
    (found,) = api.read_deployments()
    assert found.name == "nightly"
    assert str(moved) in str(found.pull_steps)
    assert again.stop(signal.SIGTERM) == 0
