"""The page to draw on, in a real browser, with a model that was trained on real digits."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage.models.backends import LocalFolder
from storage.models.store import ModelStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# A seven, in shares of the pad.
SEVEN = [(0.3, 0.25), (0.7, 0.25), (0.62, 0.45), (0.52, 0.62), (0.45, 0.82)]
LOOKS = {
    "light": {"viewport": {"width": 1100, "height": 760}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1100, "height": 760}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True,
        "device_scale_factor": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def served(started_once, trained_home) -> str:
    """The URL of a server that the tests leave as it is."""
    return url_of(started_once(trained_home, "serve", "--port", "0"))


def url_of(serve) -> str:
    serve.wait_for("Ctrl-C stops it")
    (url,) = re.findall(r"http://\S+", serve.output)
    return url


@pytest.fixture
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on the path; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


def draw(page) -> None:
    box = page.locator("#pad").bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=12)
    page.mouse.up()


def corrections(home: Path) -> list[tuple[int, int, str, bool]]:
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        return sql.execute(
            "SELECT label, predicted, version, revoked_at IS NULL FROM corrections"
        ).fetchall()


def test_a_seven_is_recognised_and_corrected_and_the_version_changes_without_a_reload(
    trained_home, started, browser, home, tiny_model
):
    from playwright.sync_api import expect

    shutil.copytree(trained_home, home)
    served = url_of(started("serve", "--port", "0"))
    page = browser.new_page(**LOOKS["light"])
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: requests.append(request.url))
    page.goto(served)
    draw(page)
    expect(page.locator("#digit")).to_have_text("7", timeout=60_000)
    expect(page.locator("#bars .first")).to_contain_text("7")
    expect(page.locator("#spoken")).to_contain_text("7, ")
    store = ModelStore(LocalFolder(home / "models"), "mnist-5k")
    first = store.champion().version
    expect(page.locator("#version")).to_contain_text(first)

    page.get_by_role("button", name="It is a 1").click()
    expect(page.locator("#note")).to_contain_text("Saved as a 1")
    assert corrections(home) == [(1, 7, first, True)]
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#note")).to_contain_text("Correction removed")
    assert corrections(home) == [(1, 7, first, False)]

    digest = store.stage("run-2", tiny_model, {"weights_digest": "w2"})
    store.promote("run-2", digest, store.champion(), actor="retrain", reason="")
    expect(page.locator("#version")).to_contain_text("run-2", timeout=60_000)
    page.get_by_role("button", name="It is a 4").click()
    expect(page.locator("#note")).to_contain_text("Saved as a 4")
    assert corrections(home)[0][2] == "run-2"

    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#digit")).to_have_text("?")
    assert not errors
    assert all(url.startswith((served, "data:")) for url in requests)


def test_a_digit_can_be_drawn_with_the_keyboard_alone(served, browser):
    from playwright.sync_api import expect

    page = browser.new_page(**LOOKS["light"])
    page.goto(served)
    page.keyboard.press("Tab")
    expect(page.locator("#pad")).to_be_focused()
    for _ in range(10):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator("#digit")).to_have_text("1")
    page.keyboard.press("z")
    expect(page.locator("#digit")).to_have_text("?")


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_fits_in_light_in_dark_and_on_a_phone(served, browser, look, tmp_path):
    from playwright.sync_api import expect

    page = browser.new_context(**LOOKS[look]).new_page()
    page.goto(served)
    draw(page)
    expect(page.locator("#digit")).to_have_text("7", timeout=60_000)
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(wide), "it needs no horizontal scrolling"
    page.wait_for_timeout(400)
    page.screenshot(path=tmp_path / f"{look}.png", full_page=True)
    print(f"screenshot: {tmp_path / look}.png")
