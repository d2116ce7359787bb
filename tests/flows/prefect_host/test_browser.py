"""The pages that people look at in the morning, in a real browser on the real Prefect UI."""

import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# The text of elements that reach beyond one around them, which hides or scrolls what is outside.
CUT_OFF = """elements => elements.filter(element => {
  for (let around = element; around; around = around.parentElement) {
    const hides = getComputedStyle(around).overflowX !== "visible";
    if (hides && around.scrollWidth > around.clientWidth + 1) return true;
  }
  return false;
}).map(element => element.textContent)"""
PREFECT = str(Path(sys.executable).with_name("prefect"))


@pytest.fixture
def chromium() -> str:
    """The system's Chromium; `.ci/run` installs it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium on the path; on Debian: apt-get install chromium")
    return found


def test_run_report_leaderboard_and_deployment_show_the_rows_accuracy(
    started, digits, environment, home, free_port, chromium, tmp_path
):
    from playwright.sync_api import expect, sync_playwright

    up = started("up", "--port", str(free_port))
    up.wait_for("started!")
    subprocess.run(
        [PREFECT, "deployment", "run", "retrain/nightly", "-p", "dataset=mnist-5k", "-p", "seed=1",
         "--watch"],
        check=True, env=environment, timeout=600,
    )  # fmt: skip
    assert (
        digits("retrain", "--dataset", "mnist-5k", "--seed", "4", "--epochs", "4").returncode == 3
    )
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        rows = sql.execute(
            "SELECT run_id, flow_run_id, test_accuracy, test_correct FROM runs"
        ).fetchall()
    (first, _, best, _), (second, flow_run_id, accuracy, correct) = rows
    base = f"http://127.0.0.1:{free_port}"
    with temporary_settings({PREFECT_API_URL: f"{base}/api"}), get_client(sync_client=True) as api:
        found = api.request("POST", "/artifacts/filter", json={}).json()
    (nights,) = re.findall(r"nights +(http\S+)", up.output)
    newest = {a["key"]: a["id"] for a in found if a["flow_run_id"] == flow_run_id}

    pages = {
        "runs": ("/runs", [f"mlp on mnist-5k {accuracy:.4f} {second}", "Rejected", "Promoted"]),
        "run": (f"/runs/flow-run/{flow_run_id}", [f"{accuracy:.4f}", "Rejected", "epoch 4/4"]),
        "report": (
            f"/artifacts/artifact/{newest['report-mnist-5k']}",
            [f"Rejected: {correct} of 1,000 correct", f"{accuracy:.4f}", "Most confident mistakes"],
        ),
        "leaderboard": (
            f"/artifacts/artifact/{newest['leaderboard-mnist-5k']}",
            [f"{accuracy:.4f}", f"{best:.4f}", first],
        ),
        "deployment": (
            nights.removeprefix(base),
            ["nightly", "At 02:00 AM every day", f"mlp on mnist-5k {best:.4f} {first}"],
        ),
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1600})
        for name, (path, texts) in pages.items():
            page.goto(f"{base}{path}")
            for text in texts:
                expect(page.get_by_text(text).first).to_be_visible(timeout=30_000)
            if name == "report":
                drawn = "images => images.map(image => image.naturalWidth)"
                widths = page.locator("img[alt]").evaluate_all(drawn)
                assert len([width for width in widths if width > 200]) == 4, widths
                for width in (1920, 1280):
                    page.set_viewport_size({"width": width, "height": 1600})
                    page.screenshot(path=screenshots(tmp_path) / f"report-{width}.png")
                    assert page.locator("td, li").evaluate_all(CUT_OFF) == []
            page.screenshot(path=screenshots(tmp_path) / f"{name}.png", full_page=True)
        browser.close()
    print(f"screenshots: {screenshots(tmp_path)}")


def screenshots(folder: Path) -> Path:
    made = folder / "screenshots"
    made.mkdir(exist_ok=True)
    return made
