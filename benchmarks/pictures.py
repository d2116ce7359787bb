"""Take the README's pictures: ``python -m benchmarks.pictures``.

Trains some models on all of MNIST with its own Prefect server. Then Chromium, which must be on the
PATH, takes pictures of the pages in the Prefect UI and writes them to docs/images/. Takes a few
minutes.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.prefect_server import prefect_server
from benchmarks.training import MNIST, PROJECT

IMAGES = PROJECT / "docs" / "images"
RUNS = (
    ["--seed", "0"],
    ["--seed", "1"],
    ["--seed", "2", "--epochs", "3"],
    ["--seed", "3", "--champion-rule", "better"],
    ["--seed", "4", "--architecture", "cnn", "--epochs", "3"],
)
# For each artifact key: text that its page shows once it is rendered, and the page's height.
PAGES = {"report": ("Most confident mistakes", 2020), "leaderboard": ("The last", 560)}


def main() -> int:
    """Train, take the pictures, and return the exit code."""
    # Otherwise SIGTERM would leave the server running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pictures", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument(
        "--dataset",
        default=str(MNIST) if MNIST.is_dir() else "mnist",
        help="[default: %(default)s]",
    )
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("expected chromium on the path; on Debian: apt-get install chromium")
    digits = str(Path(sys.executable).with_name("digits"))
    with tempfile.TemporaryDirectory() as home, prefect_server(Path(home)) as environment:
        (ui,) = re.findall(r"UI +(http\S+)", (Path(home) / "up.log").read_text())
        for run in RUNS:
            command = [digits, "retrain", "--dataset", arguments.dataset, "--name", "mnist", *run]
            done = subprocess.run(command, check=False, cwd=PROJECT, env=environment)
            if done.returncode not in {0, 3}:
                sys.exit("expected a run that was promoted or rejected")
        _photograph(chromium, ui)
    return 0


def _photograph(chromium: str, ui: str) -> None:
    from playwright.sync_api import expect, sync_playwright

    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for key, (text, height) in PAGES.items():
            page = browser.new_page(viewport={"width": 1280, "height": height})
            page.goto(f"{ui}/artifacts/key/{key}-mnist")
            # Its newest version.
            page.locator("a[href*='/artifacts/artifact/']").first.click()
            expect(page.get_by_text(text).first).to_be_visible(timeout=30_000)
            page.wait_for_load_state("networkidle")
            page.screenshot(path=IMAGES / f"{key}.png")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
