"""The page to draw on, in a real browser, with a model that was trained on real digits."""

import re
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from storage.models.backends import LocalFolder
from storage.models.store import ModelStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# A seven, in shares of the pad.
SEVEN = [(0.3, 0.25), (0.7, 0.25), (0.62, 0.45), (0.52, 0.62), (0.45, 0.82)]
ONE = [(0.5, 0.2), (0.5, 0.8)]
LOOKS = {
    "light": {"viewport": {"width": 1100, "height": 760}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1100, "height": 760}, "color_scheme": "dark"},
    "portrait": {
        "viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True,
        "device_scale_factor": 2,
    },
    "landscape": {
        "viewport": {"width": 844, "height": 390}, "is_mobile": True, "has_touch": True,
        "device_scale_factor": 3, "color_scheme": "dark",
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
        started = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--host-resolver-rules=MAP digits.example 127.0.0.1"],
        )
        yield started
        started.close()


def on_pad(page, shares) -> list[tuple[float, float]]:
    """Points of the window, for points in shares of the pad."""
    box = page.locator("#pad").bounding_box()
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in shares]


def draw(page, shares=SEVEN) -> None:
    points = on_pad(page, shares)
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

    page.get_by_role("button", name="It is a 1", exact=True).click()
    expect(page.locator("#note")).to_contain_text("Kept as a 1")
    assert corrections(home) == [(1, 7, first, True)]
    page.get_by_role("button", name="Remove").click()
    expect(page.locator("#note")).to_contain_text("Correction removed")
    assert corrections(home) == [(1, 7, first, False)]

    digest = store.stage("run-2", tiny_model, {"weights_digest": "w2"})
    store.promote("run-2", digest, store.champion(), actor="retrain", reason="")
    expect(page.locator("#version")).to_contain_text("run-2", timeout=60_000)
    page.get_by_role("button", name="It is a 4", exact=True).click()
    expect(page.locator("#note")).to_contain_text("Kept as a 4")
    assert corrections(home)[0][2] == "run-2"

    page.get_by_role("button", name="It is not a digit").click()
    expect(page.locator("#note")).to_contain_text("Kept as not a digit")
    assert corrections(home)[0][0] is None

    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#digit")).to_have_text("?")
    assert not errors
    assert all(url.startswith((served, "data:")) for url in requests)


def test_a_digit_can_be_drawn_with_the_keyboard_alone(served, browser):
    from playwright.sync_api import expect

    page = browser.new_page(**LOOKS["light"])
    page.goto(served)
    for _ in ("the link to the API", "the pad"):
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
def test_the_page_fits_and_is_sharp_and_its_controls_have_visible_borders(
    served, browser, look, tmp_path
):
    from playwright.sync_api import expect

    page = browser.new_context(**LOOKS[look]).new_page()
    page.goto(served)
    draw(page)
    expect(page.locator("#digit")).to_have_text("7", timeout=60_000)
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(wide), "it needs no horizontal scrolling"
    size = LOOKS[look]["viewport"]
    for part in page.locator("#pad, #digit, #sure, #labels button, #undo, #clear").all():
        box = part.bounding_box()
        assert box["x"] + box["width"] <= size["width"], part
        assert box["y"] + box["height"] <= size["height"], part
    assert page.evaluate("pad.width === Math.round(pad.clientWidth * devicePixelRatio)")
    colours = page.evaluate(COLOURS)
    for border, *grounds in colours:
        assert all(contrast(border, ground) >= 3 for ground in grounds), colours
    page.wait_for_timeout(400)
    page.screenshot(path=tmp_path / f"{look}.png", full_page=True)
    print(f"screenshot: {tmp_path / look}.png")


# Of each control: its border, its background, and what it lies on.
COLOURS = """[...document.querySelectorAll("button, canvas[tabindex], input")].map(element => {
  const own = getComputedStyle(element), page = getComputedStyle(document.body).backgroundColor;
  const inside = own.backgroundColor === "rgba(0, 0, 0, 0)" ? page : own.backgroundColor;
  const around = element.closest("dialog") ? getComputedStyle(element.closest("dialog")).backgroundColor : page;
  return [own.borderTopColor, inside, around].map(rgb => rgb.match(/\\d+/g).map(Number));
})"""  # noqa: E501


def contrast(*colours: list[int]) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: list[int]) -> float:
        linear = [
            c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4
            for c in colour[:3]
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def test_forced_colours_show_the_bars_and_the_pressed_label(served, browser):
    from playwright.sync_api import expect

    page = browser.new_context(forced_colors="active").new_page()
    page.goto(served)
    draw(page)
    expect(page.locator("#digit")).to_have_text("7")
    page.evaluate("press(7)")
    ground = "element => getComputedStyle(element).backgroundColor"
    first = page.locator("#bars .first")
    fill, track = (first.locator(part).evaluate(ground) for part in (".fill", ".track"))
    pressed, other = (page.locator("#labels button").nth(n).evaluate(ground) for n in (7, 3))
    assert fill != track
    assert pressed != other


def test_an_unsure_answer_is_told_as_unsure_without_a_bar(served, browser):
    from playwright.sync_api import expect

    page = browser.new_page()

    def doubt(route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace(":false", ":true"))

    page.route("**/predict", doubt)
    page.goto(served)
    draw(page)
    expect(page.locator("#sure")).to_have_text("Unsure whether this is a digit. The nearest is 7.")
    assert page.locator("#bars .first").count() == 0
    assert not "".join(page.locator("#bars .share").all_inner_texts()).strip()
    fills = page.locator("#bars .fill").evaluate_all("all => all.map(one => one.style.transform)")
    assert set(fills) == {"scaleX(0)"}
    assert page.locator("#labels button:enabled").count() == 11


def test_of_several_digits_each_is_shown_and_the_chosen_one_is_corrected(
    trained_home, started, browser, home
):
    from playwright.sync_api import expect

    shutil.copytree(trained_home, home)
    page = browser.new_context(**LOOKS["portrait"]).new_page()
    page.goto(url_of(started("serve", "--port", "0")))
    draw(page, [(0.6 * x - 0.1, y) for x, y in SEVEN])
    draw(page, [(0.75, 0.2), (0.75, 0.8)])
    expect(page.locator("#digit")).to_have_text("71")
    one = page.get_by_role("button", name="Digit 2: 1")
    one.click()
    expect(page.locator("#bars .first")).to_contain_text("1")
    answered = page.evaluate("answer.predictions[1].image.flat()")
    label = page.get_by_role("button", name="It is a 9")
    box = label.bounding_box()
    assert box["y"] + box["height"] <= 640
    label.click()
    expect(page.locator("#note")).to_contain_text("ept as a 9")
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        assert sql.execute("SELECT image, label, predicted FROM corrections").fetchall() == [
            (bytes(answered), 9, 1)
        ]


def test_letters_are_shortcuts_only_on_the_pad_and_clear_can_be_undone(served, browser):
    page = browser.new_page(**LOOKS["light"])
    page.goto(served)
    draw(page)
    page.locator("#undo").focus()
    page.keyboard.press("c")
    page.keyboard.press("z")
    assert page.evaluate("strokes.length") == 1
    page.locator("#pad").focus()
    page.keyboard.press("c")
    assert page.evaluate("strokes.length") == 0
    page.locator("#undo").click()
    assert page.evaluate("strokes.length") == 1
    page.locator("#clear").click()
    page.keyboard.press("Control+z")
    assert page.evaluate("strokes.length") == 1


def test_a_palm_beside_the_pen_and_a_second_finger_draw_nothing(served, browser):
    page = browser.new_context(**LOOKS["portrait"]).new_page()
    page.goto(served)
    devtools = page.context.new_cdp_session(page)
    palm, start, end = on_pad(page, [(0.8, 0.8), (0.5, 0.2), (0.5, 0.7)])

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def pen(kind: str, point: tuple[float, float]) -> None:
        pressed = {"button": "left", "buttons": 1, "clickCount": 1, "pointerType": "pen"}
        at = {"type": kind, "x": point[0], "y": point[1], **pressed}
        devtools.send("Input.dispatchMouseEvent", at)

    def strokes() -> list[list[list[float]]]:
        return page.evaluate("strokes")

    touch("touchStart", palm)
    touch("touchMove", (palm[0] + 9, palm[1]))
    pen("mousePressed", start)
    touch("touchMove", (palm[0] + 20, palm[1]))
    pen("mouseMoved", end)
    touch("touchEnd")
    touch("touchStart", palm)
    pen("mouseReleased", end)
    touch("touchEnd")
    (drawn,) = strokes()
    assert {round(x, 1) for x, _ in drawn} == {0.5}

    page.locator("#clear").click()
    page.wait_for_timeout(1100)  # a second after the pen, fingers draw again
    touch("touchStart", start, palm)
    touch("touchMove", end, (palm[0], palm[1] - 60))
    touch("touchEnd")
    (drawn,) = strokes()
    assert {round(x, 1) for x, _ in drawn} == {0.5}


def test_a_wrong_token_is_told_as_wrong_and_any_token_can_be_typed(
    trained_home, started, browser, home
):
    from playwright.sync_api import expect

    shutil.copytree(trained_home, home)
    page = browser.new_page()
    page.goto(url_of(started("serve", "--port", "0", DIGITS_API_TOKEN="right~1")))  # noqa: S106
    expect(page.locator("#login")).to_be_visible()
    expect(page.locator("#wrong")).to_be_hidden()
    for typed in ("wrong", "пароль ✓", "right~"):
        page.locator("#token").fill(typed)
        page.keyboard.press("Enter")
        expect(page.locator("#wrong")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#version")).to_have_text("This server requires a token.")
    draw(page)
    expect(page.locator("#login")).to_be_visible()
    page.locator("#token").fill("right~1")
    page.keyboard.press("Enter")
    expect(page.locator("#digit")).to_have_text("7")
    expect(page.locator("#version")).to_contain_text("mnist-5k")


class Proxy(BaseHTTPRequestHandler):
    """A reverse proxy that strips the prefix /ml, after ``delay_s`` of its server."""

    def forward(self) -> None:
        time.sleep(self.server.delay_s)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        sent = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
        assert self.path.startswith("/ml/")
        url = f"{self.server.target}{self.path.removeprefix('/ml')}"
        answer = httpx.request(self.command, url, content=body, headers=sent, timeout=60)
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(answer.status_code)
            for header in ("Content-Type", "Content-Security-Policy"):
                if header in answer.headers:
                    self.send_header(header, answer.headers[header])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

    do_GET = do_POST = do_DELETE = forward  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(trained_home, started, home) -> Iterator[ThreadingHTTPServer]:
    """A slow link to `digits serve` below http://digits.example/ml/."""
    shutil.copytree(trained_home, home)
    serve = started(
        "serve", "--port", "0", "--root-path", "/ml", DIGITS_ALLOWED_HOSTS="digits.example"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.target, server.delay_s = url_of(serve), 0.0
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_on_a_slow_link_below_a_prefix_the_answer_is_that_of_the_drawing_shown(
    proxy, browser, home
):
    from playwright.sync_api import expect

    page = browser.new_page(**LOOKS["light"])
    failed = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.on("response", lambda r: failed.append(r.url) if r.status >= 400 else None)
    url = f"http://digits.example:{proxy.server_port}/ml/"
    page.goto(url)
    proxy.delay_s = 1.5
    draw(page)
    page.wait_for_timeout(500)  # the seven is on its way
    page.locator("#clear").click()
    page.evaluate(WATCH)
    draw(page, ONE)
    page.wait_for_timeout(1200)
    assert page.locator("#labels button:enabled").count() == 0
    expect(page.locator("#digit")).to_have_text("1")
    assert set(page.evaluate("seen")) <= {"? off", "1 off", "1 on"}

    answered = page.evaluate("answer.predictions[0].image.flat()")
    page.get_by_role("button", name="It is a 7").click()
    page.locator("#clear").click()
    draw(page)
    expect(page.locator("#note")).to_contain_text("Your earlier drawing: kept as a 7")
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        assert sql.execute("SELECT image, label, predicted FROM corrections").fetchall() == [
            (bytes(answered), 7, 1)
        ]
    expect(page.locator("#digit")).to_have_text("7")
    assert page.locator("[aria-pressed=true]").count() == 0

    proxy.delay_s = 0
    page.get_by_role("link", name="API").click()
    expect(page.get_by_text("/corrections/{digest}").first).to_be_visible()
    assert page.url == f"{url}docs"
    assert not failed


# Note each digit that is shown, with whether it can be corrected.
WATCH = """() => {
  window.seen = [];
  const look = () => seen.push($("digit").textContent + ($("labels").children[0].disabled ? " off" : " on"));
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""  # noqa: E501


def test_a_server_that_hangs_or_is_killed_is_told_and_asked_again_when_it_is_back(
    trained_home, started, browser, home, free_port
):
    from playwright.sync_api import expect

    shutil.copytree(trained_home, home)
    serve = started("serve", "--port", str(free_port))
    page = browser.new_page(**LOOKS["light"])
    polls = []
    page.on("request", lambda r: polls.append(r.url) if r.url.endswith("/champion") else None)
    page.goto(url_of(serve))
    expect(page.locator("#version")).to_contain_text("mnist-5k")

    serve.process.send_signal(signal.SIGSTOP)
    polls.clear()
    draw(page, ONE)
    silent = "The server does not answer. The page asks again by itself."
    expect(page.locator("#sure")).to_have_text(silent, timeout=30_000)
    assert len(polls) <= 3, "they do not pile up"
    serve.process.send_signal(signal.SIGCONT)
    expect(page.locator("#digit")).to_have_text("1", timeout=30_000)

    serve.stop(signal.SIGKILL)
    page.locator("#clear").click()
    draw(page)
    expect(page.locator("#sure")).to_have_text(silent)
    assert page.locator("#labels button:enabled").count() == 0
    started("serve", "--port", str(free_port)).wait_for("Ctrl-C stops it")
    expect(page.locator("#digit")).to_have_text("7", timeout=30_000)


def test_the_page_says_which_version_learnt_a_correction(
    trained_home, started, browser, home, tiny_model
):
    from playwright.sync_api import expect

    shutil.copytree(trained_home, home)
    page = browser.new_page()
    page.goto(url_of(started("serve", "--port", "0")))
    digest, number = "0", 0
    while int(digest, 16) % 5 == 0:  # one in five is not trained on
        page.locator("#pad").click(position={"x": 30 + number, "y": 30}, force=True)
        draw(page, [(x + 0.01 * number, y) for x, y in SEVEN])
        page.get_by_role("button", name="It is a 4", exact=True).click()
        expect(page.locator("#note")).to_contain_text("Kept as a 4")
        digest, number = page.evaluate("kept.digest"), number + 1
    expect(page.locator("#note")).to_contain_text("No version has learnt it yet")
    with closing(sqlite3.connect(home / "metrics.db")) as sql, sql:
        sql.execute("UPDATE corrections SET learnt_by = 'run-2'")
    store = ModelStore(LocalFolder(home / "models"), "mnist-5k")
    made = store.stage("run-2", tiny_model, {"weights_digest": "w2"})
    page.reload()
    store.promote("run-2", made, store.champion(), actor="retrain", reason="")
    expect(page.locator("#note")).to_contain_text(
        "Your correction: kept as a 4. Version run-2 has learnt it.", timeout=30_000
    )
