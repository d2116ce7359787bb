"""`digits serve` as it runs: a process, real connections, a real store and database."""

import io
import json
import re
import signal
import socket
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flows.commands.serve import DRAIN_S
from serving.bounds import PATIENCE_S
from serving.champion import PERIOD_S
from storage.models.backends import LocalFolder
from storage.models.classifier import load_classifier
from storage.models.store import ModelStore

SEVEN = Path(__file__).parents[3] / "docs/images/seven.png"
IMAGE = np.random.default_rng(5).integers(0, 256, (28, 28)).astype(np.uint8)
Promote = Callable[[str, int], None]


@pytest.fixture
def store(home: Path) -> ModelStore:
    return ModelStore(LocalFolder(home / "models"), "mnist")


@pytest.fixture
def promote(store: ModelStore, tiny_models) -> Promote:
    """Promote a tiny model, by its name and seed."""

    def promoted(name: str, seed: int) -> None:
        origin = {"weights_digest": name, "test_correct": 7, "test_total": 10}
        digest = store.stage(name, tiny_models(seed), origin)
        store.promote(name, digest, store.champion(), actor="retrain", reason="")

    return promoted


@pytest.fixture
def serve(started, promote) -> Iterator[Callable[..., tuple[object, httpx.Client]]]:
    """Start `digits serve` with the champion run-1, and a client for it."""
    promote("run-1", 1)
    clients = []

    def start(*arguments: str, **settings: str):
        process = started("serve", "--port", "0", *arguments, **settings)
        process.wait_for("Ctrl-C stops it", 30)
        (port,) = re.findall(r"http://[^ ]+:(\d+)", process.output)
        clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))
        return process, clients[-1]

    yield start
    for client in clients:
        client.close()


def as_json(*images: np.ndarray) -> dict:
    return {"images": [image.tolist() for image in images]}


def offline(store: ModelStore, version: str) -> list[float]:
    """What a version says to IMAGE, without the server."""
    (swap,) = [swap for swap in store.history().swaps if swap.version == version]
    classifier = load_classifier(store.version(version), swap.digest)
    return classifier.probabilities(IMAGE[None])[0].tolist()


def until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_files_and_arrays_are_answered_by_the_champion_and_the_version_is_named(serve, store):
    _, client = serve()

    file = client.post("/predict", content=SEVEN.read_bytes())
    arrays = client.post("/predict", json=as_json(IMAGE, 255 - IMAGE))

    assert file.status_code == arrays.status_code == 200
    assert file.json()["version"] == arrays.json()["version"] == "run-1"
    (prediction,) = file.json()["predictions"]
    assert np.array(prediction["image"]).shape == (28, 28)
    first, second = arrays.json()["predictions"]
    assert first["probabilities"] == offline(store, "run-1") != second["probabilities"]
    assert first["digit"] == int(np.argmax(first["probabilities"]))
    assert first["probability"] == max(first["probabilities"])
    assert first["runner_up"] == int(np.argsort(first["probabilities"])[-2])
    assert "image" not in first
    assert client.get("/champion").json() == {
        "dataset": "mnist", "version": "run-1", "generation": 1, "test_correct": 7,
        "test_total": 10, "refused": None,
    }  # fmt: skip
    assert client.get("/healthz").json() == {"status": "ok", "version": "run-1"}


def test_serving_loads_neither_tensorflow_nor_prefect(serve):
    process, client = serve()
    assert client.get("/healthz").status_code == 200

    loaded = {
        Path(mapped.path).name for mapped in psutil.Process(process.process.pid).memory_maps()
    }
    assert not [name for name in loaded if "tensorflow" in name.lower()]
    assert any("tflite" in name.lower() or "litert" in name.lower() for name in loaded)


def test_a_promotion_and_a_rollback_are_served_without_a_restart(serve, promote, store, digits):
    assert PERIOD_S == 0.25, "which makes it less than a second"
    _, client = serve()

    def answers() -> str:
        return client.post("/predict", json=as_json(IMAGE)).json()["version"]

    promote("run-2", 2)
    until(lambda: answers() == "run-2", "the new champion answers")
    assert digits("rollback", "--why", "odd").returncode == 0
    until(lambda: answers() == "run-1", "the old one answers again")


def test_a_damaged_champion_is_refused_and_the_last_good_one_answers(serve, promote, store):
    process, client = serve()
    promote("run-2", 2)
    until(lambda: client.get("/champion").json()["version"] == "run-2", "run-2 answers", 2)
    model = store.version("run-2") / "model.tflite"

    def damaged_promote(name: str) -> None:
        promote(name, 3)
        path = store.version(name) / "model.tflite"
        path.write_bytes(path.read_bytes()[:-1])

    damaged_promote("run-3")
    until(lambda: client.get("/champion").json()["version"] in {"run-2", "run-3"}, "one answers")
    # It may have been loaded whole in the moment before it was damaged: then the next one is not.
    del model
    store.rollback("run-2", actor="anna@here", reason="")
    until(lambda: client.get("/champion").json()["version"] == "run-2", "run-2 answers", 2)
    broken = json.loads((store.folder / "champion.json").read_text())
    pointer = store.folder / "champion.json"
    pointer.write_text(json.dumps({**broken, "digest": "0" * 64, "generation": 9}))
    until(lambda: client.get("/champion").json()["refused"] is not None, "it is refused", 2)

    answer = client.post("/predict", json=as_json(IMAGE)).json()
    assert answer["version"] == "run-2"
    assert answer["predictions"][0]["probabilities"] == offline_by_name(store, "run-2")
    assert "digits_champion_refused 1.0" in client.get("/metrics").text
    assert "still serving run-2" in process.output

    pointer.write_text(json.dumps(broken))
    until(lambda: client.get("/champion").json()["refused"] is None, "all is well", 2)
    assert "digits_champion_refused 0.0" in client.get("/metrics").text


def offline_by_name(store: ModelStore, version: str) -> list[float]:
    from storage.models.files import sha256

    folder = store.version(version)
    classifier = load_classifier(folder, sha256(folder / "manifest.json"))
    return classifier.probabilities(IMAGE[None])[0].tolist()


def test_what_is_no_image_is_refused_in_one_line(serve):
    _, client = serve()
    blank = io.BytesIO()
    Image.new("L", (90, 90), 255).save(blank, "PNG")
    json_type = {"Content-Type": "application/json"}

    cases = [
        (422, "received an empty one", {"content": b""}),
        (422, "received something else", {"content": b"GIF89a"}),
        (422, "without any ink", {"content": blank.getvalue()}),
        (422, "at most 25,000,000 pixels", {"content": bomb(60_000, 60_000)}),
        (413, "at most 10,000,000 bytes", {"content": bytes(10_000_001)}),
        (415, "--data-binary", {"files": {"file": SEVEN.read_bytes()}}),
        (422, "Invalid JSON", {"content": b"{", "headers": json_type}),
        (422, "images: Field required", {"json": {}}),
        (422, "images.0.0", {"json": {"images": [[1]]}}),
        (422, "received 256", {"json": as_json(np.full((28, 28), 256))}),
        (422, "received -1", {"json": as_json(np.full((28, 28), -1))}),
        (422, "valid integer", {"json": as_json(np.full((28, 28), 0.5))}),
        (422, "at least 28", {"json": as_json(IMAGE[:, :27])}),
        (422, "at most 256 items", {"json": as_json(*[IMAGE] * 257)}),
        (413, "at most 2,000,000 bytes", {"content": b" " * 2_000_001, "headers": json_type}),
        (422, "Invalid JSON: recursion", {"content": b"[" * 100_000, "headers": json_type}),
    ]  # fmt: skip
    for status, words, request in cases:
        answer = client.post("/predict", **request)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), (
            words,
            answer.text,
        )
        assert len(answer.text) < 300
    assert client.get("/nothing").status_code == 404
    assert client.get("/predict").status_code == 405


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is that large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data
            + struct.pack(">I", zlib.crc32(kind + data))
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_correction_is_kept_corrected_again_and_taken_back(serve, home):
    _, client = serve()
    image = IMAGE.tolist()

    first = client.post("/corrections", json={"image": image, "label": 3, "actor": "anna"})
    again = client.post("/corrections", json={"image": image, "label": 5})

    assert (first.status_code, again.status_code) == (201, 201)
    digest = first.json()["digest"]
    assert again.json()["digest"] == digest
    said = client.post("/predict", json=as_json(IMAGE)).json()["predictions"][0]["digit"]
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        rows = sql.execute(
            "SELECT dataset, digest, image, label, predicted, version, actor, revoked_at"
            " FROM corrections"
        ).fetchall()
        assert rows == [
            ("mnist", digest, IMAGE.tobytes(), 5, said, "run-1", "127.0.0.1", None)
        ]  # fmt: skip
        assert client.delete(f"/corrections/{digest}").status_code == 204
        assert client.delete(f"/corrections/{digest}").status_code == 404
        assert sql.execute("SELECT revoked_at FROM corrections").fetchone()[0] is not None
    for body, words in [
        ({"image": image, "label": 10}, "label"),
        ({"image": image, "label": True}, "label"),
        ({"image": np.zeros((28, 28), int).tolist(), "label": 1}, "without any ink"),
        ({"label": 1}, "image: Field required"),
    ]:
        refused = client.post("/corrections", json=body)
        assert refused.status_code == 422
        assert words in refused.json()["detail"]
    # What a page from elsewhere can send without being asked:
    plain = client.post("/corrections", content=json.dumps({"image": image, "label": 1}))
    assert plain.status_code == 415


def test_without_a_database_it_predicts_and_says_that_no_correction_is_kept(serve, home):
    (home / "metrics.db").mkdir()
    _, client = serve()

    answer = client.post("/corrections", json={"image": IMAGE.tolist(), "label": 3})

    assert answer.status_code == 503
    assert "the metrics database" in answer.json()["detail"]
    assert client.post("/predict", json=as_json(IMAGE)).status_code == 200


def test_by_another_name_of_this_machine_it_is_not_to_be_reached(serve):
    _, client = serve()
    for name, status in [("evil.example", 400), ("localhost", 200), ("127.0.0.1:80", 200)]:
        assert client.get("/champion", headers={"Host": name}).status_code == status


def test_on_another_address_a_token_is_needed(serve, digits):
    done = digits("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert done.returncode == 1 + 1
    assert "DIGITS_API_TOKEN" in done.stderr

    process, client = serve("--host", "0.0.0.0", DIGITS_API_TOKEN="k-1~")  # noqa: S104, S106
    sent = {"Authorization": "Bearer k-1~"}
    for path in ("/champion", "/metrics"):
        assert client.get(path).status_code == 401
        for other in ("Bearer x", "Bearer k-1", b"Bearer k-1~\xff", "Basic k-1~"):
            assert client.get(path, headers={"Authorization": other}).status_code == 401
    assert client.post("/predict", json=as_json(IMAGE)).status_code == 401
    assert client.post("/corrections", json={}).status_code == 401
    assert client.get("/healthz").status_code == client.get("/").status_code == 200
    assert client.get("/champion", headers=sent).status_code == 200
    assert client.post("/predict", json=as_json(IMAGE), headers=sent).status_code == 200
    assert "k-" not in process.output


def test_metrics_count_requests_predictions_and_confidence(serve):
    _, client = serve()
    digit = client.post("/predict", json=as_json(IMAGE)).json()["predictions"][0]["digit"]
    client.post("/predict", content=b"nothing")
    client.get("/whatever/1")

    said = client.get("/metrics").text
    for line in (
        'digits_requests_total{path="/predict",status="200"} 1.0',
        'digits_requests_total{path="/predict",status="422"} 1.0',
        'digits_requests_total{path="other",status="404"} 1.0',
        f'digits_predictions_total{{digit="{digit}",version="run-1"}} 1.0',
        "digits_confidence_count 1.0",
        'digits_request_seconds_count{path="/predict"} 2.0',
        'digits_champion_info{dataset="mnist",version="run-1"} 1.0',
        "digits_champion_generation 1.0",
    ):
        assert line in said.splitlines(), said


def test_docs_come_from_this_machine_alone(serve):
    _, client = serve()
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert sources
    assert all(source.startswith("/") for source in sources)
    assert all(client.get(source).status_code == 200 for source in sources)
    assert {"/predict", "/champion", "/metrics", "/corrections"} <= set(
        client.get("/openapi.json").json()["paths"]
    )
    front = client.get("/")
    assert "default-src 'none'" in front.headers["Content-Security-Policy"]
    assert not re.search(r'(?:src|href)="(?:https?:)?//', front.text)


def test_sigterm_lets_a_request_in_progress_finish_before_the_server_exits(serve):
    assert DRAIN_S == 8
    process, client = serve()
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address) as slow:
        body = json.dumps(as_json(IMAGE)).encode()
        slow.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        time.sleep(0.3)
        process.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        slow.sendall(body)
        assert b"200 OK" in slow.recv(100)
    assert process.process.wait(60) == 0
    assert "Traceback" not in process.output


def test_a_port_that_is_taken_and_no_champion_are_told_in_one_line(
    serve, digits, environment, home
):
    _, client = serve()
    taken = digits("serve", "--port", str(client.base_url.port))
    assert taken.returncode == 1
    assert taken.stderr.count("\n") == 1
    assert "in use" in taken.stderr
    nobody = digits("serve", "--port", "0", DIGITS_HOME=str(home / "other"))
    assert nobody.returncode == 1
    assert "digits retrain" in nobody.stderr
    assert digits("serve", "--host", "no.such.host.invalid", DIGITS_API_TOKEN="x").returncode == 1  # noqa: S106


@pytest.mark.slow
def test_fifty_promotions_under_load_and_no_request_fails_or_gets_a_mixture(serve, promote, store):
    _, client = serve()
    for seed in range(2, 5):
        promote(f"warm-{seed}", seed)  # makes the model
    ended = threading.Event()

    def ask(_: int) -> list[tuple[int, str, tuple[float, ...]]]:
        answers = []
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            while not ended.is_set() or len(answers) < 2600:
                answer = own.post("/predict", json=as_json(IMAGE))
                said = answer.json()
                answers.append(
                    (answer.status_code, said["version"],
                     tuple(said["predictions"][0]["probabilities"]))
                )  # fmt: skip
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        for number in range(50):
            promote(f"load-{number:02}", 1 + number % 4)
            time.sleep(0.4)
        ended.set()
        answers = [answer for future in asking for answer in future.result()]

    expected = {
        seed: tuple(offline_by_name(store, name))
        for seed, name in ((1, "load-48"), (2, "load-49"), (3, "load-46"), (4, "load-47"))
    }
    seeds = {"run-1": 1} | {f"warm-{seed}": seed for seed in range(2, 5)}
    seeds |= {f"load-{number:02}": 1 + number % 4 for number in range(50)}
    assert len(answers) >= 10_000
    assert {status for status, _, _ in answers} == {200}
    assert all(said == expected[seeds[version]] for _, version, said in answers)
    assert len({version for _, version, _ in answers}) >= 40


@pytest.mark.slow
def test_half_sent_requests_and_clients_that_take_nothing_are_closed(serve):
    assert PATIENCE_S == 10
    process, client = serve()
    address = (client.base_url.host, client.base_url.port)
    half = [
        b"", b"POST", b"POST /predict HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
    ]  # fmt: skip
    with ThreadPoolExecutor(50) as pool:

        def until_closed(number: int) -> None:
            with socket.create_connection(address, timeout=120) as connection:
                connection.sendall(half[number % len(half)])
                while connection.recv(65536):
                    pass

        waiting = [pool.submit(until_closed, number) for number in range(50)]
        for _ in range(20):
            assert client.get("/healthz").status_code == 200
            time.sleep(0.1)
        for future in waiting:
            future.result()
    assert client.get("/healthz").status_code == 200
    assert "Traceback" not in process.output


@pytest.mark.slow
def test_more_than_it_bears_is_answered_with_503_and_it_goes_on(serve):
    process, client = serve()
    address = (client.base_url.host, client.base_url.port)
    with ThreadPoolExecutor(1) as pool:
        connections = [socket.create_connection(address) for _ in range(300)]
        pool.submit(time.sleep, 0).result()
        refused = httpx.get(f"{client.base_url}/healthz")
        assert refused.status_code == 503
        for connection in connections:
            connection.close()
    until(lambda: client.get("/healthz").status_code == 200, "it answers again")
    assert "Traceback" not in process.output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_inputs_and_bombs_give_no_500_and_memory_stays_bounded(serve):
    process, client = serve()
    memory = psutil.Process(process.process.pid)
    largest = 0
    seven = SEVEN.read_bytes()
    real = io.BytesIO()
    Image.new("L", (5_000, 5_000), 255).save(real, "PNG")
    deep = json.dumps({"images": [[[0] * 28] * 28]}).encode()
    kinds = ["application/json", "image/png", "text/plain", "multipart/form-data; boundary=x", ""]
    paths = ["/predict", "/corrections", "/corrections/x", "/champion", "/metrics", "/", "/%00"]

    @settings(
        max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(
        method=st.sampled_from(["POST", "POST", "POST", "GET", "DELETE", "PUT"]),
        path=st.sampled_from(paths) | st.text(st.characters(codec="ascii"), max_size=20),
        kind=st.sampled_from(kinds),
        body=st.binary(max_size=200)
        | st.tuples(st.integers(0, len(seven)), st.binary(max_size=8)).map(
            lambda cut: seven[: cut[0]] + cut[1] + seven[cut[0] + len(cut[1]) :]
        )
        | st.recursive(
            st.none() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=5)
                | st.dictionaries(st.sampled_from(["images", "image", "label"]), inner, max_size=3)
            ),
        ).map(lambda value: json.dumps(value).encode())
        | st.sampled_from([deep, deep[:-3], deep.replace(b"0", b"1e999", 1)]),
    )
    def send(method: str, path: str, kind: str, body: bytes) -> None:
        nonlocal largest
        url = f"{client.base_url}{path if path.startswith('/') else '/predict'}"
        try:
            request = client.build_request(
                method, url, content=body, headers={"Content-Type": kind}
            )
        except httpx.InvalidURL:
            return
        answer = client.send(request)
        allowed = answer.status_code in {200, 201, 204, 503} or 400 <= answer.status_code < 500
        assert allowed, (method, path, kind, body, answer.text)
        largest = max(largest, memory.memory_info().rss)

    send()
    with ThreadPoolExecutor(32) as pool:

        def blow(number: int) -> int:
            body = real.getvalue() if number % 2 else bytes(9_000_000)
            return httpx.post(f"{client.base_url}/predict", content=body, timeout=60).status_code

        codes = set(pool.map(blow, range(96)))
        largest = max(largest, memory.memory_info().rss)
    assert codes <= {422, 503}
    assert largest < 1_000_000_000
    assert client.post("/predict", content=seven).status_code == 200
    assert "Traceback" not in process.output
    print(f"largest resident size {largest / 1e6:.0f} MB")
