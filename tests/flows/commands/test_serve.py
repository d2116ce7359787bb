"""`digits serve` as it runs: a process, real connections, a real store and database."""

import base64
import io
import json
import re
import signal
import socket
import sqlite3
import struct
import time
import zlib
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from flows.commands.serve import DRAIN_S
from serving.champion import CHECK_INTERVAL_S

SEVEN = Path(__file__).parents[3] / "docs/images/seven.png"
IMAGE = np.random.default_rng(5).integers(0, 256, (28, 28)).astype(np.uint8)


def as_json(*images: np.ndarray) -> dict:
    return {"images": [image.tolist() for image in images]}


def test_files_and_arrays_are_predicted_and_the_version_is_named(server, offline):
    client = server.client

    file = client.post("/predict", content=SEVEN.read_bytes())
    arrays = client.post("/predict", json=as_json(IMAGE, 255 - IMAGE))

    assert file.status_code == arrays.status_code == 200
    assert file.json()["version"] == arrays.json()["version"] == "run-1"
    (prediction,) = file.json()["predictions"]
    assert np.array(prediction["image"]).shape == (28, 28)
    assert file.json()["text"] == str(prediction["digit"])
    assert set(prediction["box"]) == {"left", "top", "width", "height"}
    assert prediction["unsure"] is False
    first, second = arrays.json()["predictions"]
    assert (
        first["probabilities"] == offline(server.store, "run-1", IMAGE) != second["probabilities"]
    )
    assert first["digit"] == int(np.argmax(first["probabilities"]))
    assert first["probability"] == max(first["probabilities"])
    assert first["runner_up"] == int(np.argsort(first["probabilities"])[-2])
    assert not {"image", "box"} & set(first)
    assert "text" not in arrays.json()
    assert client.get("/champion").json() == {
        "dataset": "mnist", "version": "run-1", "generation": 1, "test_correct": 7,
        "test_total": 10, "refused": None,
    }  # fmt: skip
    assert client.get("/healthz").json() == {"status": "ok", "version": "run-1"}


def test_serving_loads_neither_tensorflow_nor_prefect(server):
    assert server.client.get("/healthz").status_code == 200

    process = psutil.Process(server.process.process.pid)
    loaded = {Path(mapped.path).name for mapped in process.memory_maps()}
    assert not [name for name in loaded if "tensorflow" in name.lower()]
    assert any("tflite" in name.lower() or "litert" in name.lower() for name in loaded)


def test_a_promotion_and_a_rollback_are_served_without_a_restart(serve, promote, digits, until):
    assert CHECK_INTERVAL_S == 0.25, "a new champion serves within a second"
    server = serve()

    def version() -> str:
        return server.client.post("/predict", json=as_json(IMAGE)).json()["version"]

    promote(server.store, "run-2", 2)
    until(lambda: version() == "run-2", "the new champion serves")
    assert digits("rollback", "--why", "odd").returncode == 0
    until(lambda: version() == "run-1", "the old one serves again")


def test_a_damaged_champion_is_refused_until_repaired_and_the_last_good_one_serves(
    serve, promote, until, offline
):
    server = serve()
    client, store = server.client, server.store
    pointer = store.folder / "champion.json"
    first = json.loads(pointer.read_text())
    promote(store, "run-2", 2)
    until(lambda: client.get("/champion").json()["version"] == "run-2", "run-2 serves")
    second = json.loads(pointer.read_text())
    model = store.version("run-1") / "model.tflite"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])

    for wrong in (
        {**second, "digest": "0" * 64, "generation": 8},
        {**second, "version": "run-1", "digest": first["digest"], "generation": 9},
    ):
        pointer.write_text(json.dumps(second))
        until(lambda: client.get("/champion").json()["refused"] is None, "run-2 is the champion")
        pointer.write_text(json.dumps(wrong))
        until(lambda: client.get("/champion").json()["refused"] is not None, "it is refused")
        answer = client.post("/predict", json=as_json(IMAGE)).json()
        assert answer["version"] == "run-2"
        assert answer["predictions"][0]["probabilities"] == offline(store, "run-2", IMAGE)
        assert "digits_champion_refused 1.0" in client.get("/metrics").text
    assert "still serving run-2: " in server.process.output

    model.write_bytes(whole)
    until(lambda: client.get("/champion").json()["version"] == "run-1", "the repaired one serves")
    assert client.get("/champion").json()["refused"] is None
    assert "digits_champion_refused 0.0" in client.get("/metrics").text


def test_an_invalid_body_is_refused_in_one_line(server):
    client = server.client
    blank = io.BytesIO()
    Image.new("L", (90, 90), 255).save(blank, "PNG")
    json_type = {"Content-Type": "application/json"}

    cases = [
        (422, "received an empty file", {"content": b""}),
        (422, "received another file type", {"content": b"nothing known"}),
        (422, "received a GIF file; save it as PNG or JPEG", {"content": b"GIF89a"}),
        (422, "received a TIFF file; save", {"content": b"MM\0*\0\0\0\x08"}),
        (422, "received a HEIC file; save", {"content": b"\0\0\0\x18ftypheic"}),
        (422, "received an AVIF file; save", {"content": b"\0\0\0\x1cftypavif"}),
        (422, "received a PDF file; save", {"content": b"%PDF-1.7\n"}),
        (422, "found no ink", {"content": blank.getvalue()}),
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
        (422, "found no ink", {"json": as_json(np.zeros((28, 28), int))}),
        (422, "multiply them by 255", {"json": as_json((IMAGE > 99).astype(int))}),
        (422, "28 rows of 28 whole numbers", {"json": as_json(IMAGE / 255)}),
        (422, "canvas.toBlob", {"content": b"data:image/png;base64,iVBORw0KGgo="}),
        (422, "Content-Type application/json", {"content": b'{"images": []}'}),
        (422, "canvas.toBlob", {"content": base64.b64encode(SEVEN.read_bytes())}),
        (422, "send its bytes as the body", {"json": {"images": ["data:image/png;base64,iV="]}}),
        (422, "send its bytes as the body", {"json": "data:image/png;base64,iV="}),
        (415, "received gzip", {"content": b"x", "headers": {"Content-Encoding": "gzip"}}),
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
    """A small PNG whose header declares this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data
            + struct.pack(">I", zlib.crc32(kind + data))
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_correction_is_stored_changed_and_revoked(server):
    client = server.client
    image = IMAGE.tolist()

    first = client.post("/corrections", json={"image": image, "label": 3, "actor": "anna"})
    again = client.post("/corrections", json={"image": image, "label": 5})

    assert (first.status_code, again.status_code) == (201, 201)
    digest = first.json()["digest"]
    assert again.json()["digest"] == digest
    predicted = client.post("/predict", json=as_json(IMAGE)).json()["predictions"][0]["digit"]
    with closing(sqlite3.connect(server.home / "metrics.db")) as sql:
        rows = sql.execute(
            "SELECT dataset, digest, image, label, predicted, version, actor, revoked_at"
            " FROM corrections"
        ).fetchall()
        assert rows == [
            ("mnist", digest, IMAGE.tobytes(), 5, predicted, "run-1", "127.0.0.1", None)
        ]  # fmt: skip
        assert client.delete(f"/corrections/{digest}").status_code == 204
        assert client.delete(f"/corrections/{digest}").status_code == 404
        assert sql.execute("SELECT revoked_at FROM corrections").fetchone()[0] is not None
    for body, words in [
        ({"image": image, "label": 10}, "label"),
        ({"image": image, "label": True}, "label"),
        ({"image": np.zeros((28, 28), int).tolist(), "label": 1}, "found no ink"),
        ({"image": image}, "label: Field required"),
        ({"label": 1}, "image: Field required"),
    ]:
        refused = client.post("/corrections", json=body)
        assert refused.status_code == 422
        assert words in refused.json()["detail"]
    # A page of another site may send this without a preflight request.
    plain = client.post("/corrections", content=json.dumps({"image": image, "label": 1}))
    assert plain.status_code == 415


def test_a_correction_says_not_a_digit_and_what_became_of_it(serve, home):
    client = serve().client
    sent = client.post("/corrections", json={"image": (255 - IMAGE).tolist(), "label": None})
    digest = sent.json()["digest"]
    assert (sent.status_code, sent.json()["label"], sent.json()["state"]) == (201, None, "measured")
    number = next(n for n in range(9) if int(sha256(IMAGE - np.uint8(n)).hexdigest(), 16) % 5)
    image = (IMAGE - np.uint8(number)).tolist()
    kept = client.post("/corrections", json={"image": image, "label": 3}).json()
    assert (kept["state"], kept["learnt_by"]) == ("kept", None)
    with closing(sqlite3.connect(home / "metrics.db")) as sql, sql:
        sql.execute("UPDATE corrections SET learnt_by = 'run-2' WHERE label = 3")
        labels = sql.execute("SELECT label FROM corrections ORDER BY label").fetchall()
    assert labels == [(None,), (3,)]
    learnt = client.get(f"/corrections/{kept['digest']}").json()
    assert (learnt["state"], learnt["learnt_by"]) == ("learnt", "run-2")
    assert client.delete(f"/corrections/{digest}").status_code == 204
    assert client.get(f"/corrections/{digest}").json()["state"] == "revoked"
    assert client.get("/corrections/0000").status_code == 404


def test_without_a_database_it_predicts_but_stores_no_correction(serve, home):
    (home / "metrics.db").mkdir()
    client = serve().client

    answer = client.post("/corrections", json={"image": IMAGE.tolist(), "label": 3})

    assert answer.status_code == 503
    assert "the metrics database" in answer.json()["detail"]
    assert client.post("/predict", json=as_json(IMAGE)).status_code == 200


def test_a_host_name_other_than_loopback_is_rejected(server):
    client = server.client
    for name, status in [
        ("evil.example", 400), ("localhost", 200), ("127.0.0.1:80", 200), ("[::1]:80", 200),
        ("", 400), ("localhost:80:80", 400),
    ]:  # fmt: skip
        answer = client.get("/champion", headers={"Host": name})
        assert answer.status_code == status, name
        assert status == 200 or "DIGITS_ALLOWED_HOSTS" in answer.json()["detail"]


def test_behind_a_proxy_it_answers_below_a_prefix_to_named_hosts_and_origins(serve, digits):
    settings = {
        "DIGITS_ALLOWED_HOSTS": "digits.example, b.example",
        "DIGITS_ALLOWED_ORIGINS": "https://app.example",
    }
    client = serve("--root-path", "/ml/digits/", **settings).client
    for prefix in ("", "/ml/digits"):  # whether or not the proxy strips it
        for path in ("/", "/healthz"):
            assert client.head(prefix + path).status_code == 200
            assert client.head(prefix + path).content == b""
        page = client.get(f"{prefix}/docs").text
        sources = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert sources
        for source in sources:
            assert source.startswith("/ml/digits/")
            assert client.get(source.removeprefix("/ml/digits")).status_code == 200
            assert client.get(source).status_code == 200
        assert client.post(f"{prefix}/predict", json=as_json(IMAGE)).status_code == 200
    counted = 'digits_requests_total{path="/predict",status="200"} 2.0'
    assert counted in client.get("/metrics").text
    moved = client.get("/ml/digits")
    assert (moved.status_code, moved.headers["Location"][-11:]) == (307, "/ml/digits/")
    assert client.get("/ml/digits-other/healthz").status_code == 404
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/ml/digits"}]
    for name, status in [("digits.example:443", 200), ("B.example", 200), ("c.example", 400)]:
        assert client.get("/champion", headers={"Host": name}).status_code == status

    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for origin, allowed in [("https://app.example", True), ("https://evil.example", False)]:
        first = client.options("/corrections", headers={"Origin": origin, **asked})
        answer = client.get("/champion", headers={"Origin": origin})
        assert (first.status_code == 200) is allowed
        assert ("Access-Control-Allow-Origin" in answer.headers) is allowed
    for name, value in [
        ("HOSTS", "https://x"),
        ("HOSTS", "x:80"),
        ("ORIGINS", "*"),
        ("ORIGINS", "x"),
    ]:
        refused = digits("serve", **{f"DIGITS_ALLOWED_{name}": value})
        assert (refused.returncode, value in refused.stderr) == (2, True)
    assert digits("serve", "--root-path", "a b").returncode == 2


def test_without_the_setting_no_other_origin_may_read_or_correct(server):
    asked = {"Access-Control-Request-Method": "POST", "Origin": "https://evil.example"}
    assert server.client.options("/corrections", headers=asked).status_code == 405
    assert not [name for name in server.client.get("/").headers if name.startswith("access-")]


def test_another_address_requires_a_token(serve, digits):
    done = digits("serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104
    assert done.returncode == 1 + 1
    assert "DIGITS_API_TOKEN" in done.stderr

    server = serve("--host", "0.0.0.0", DIGITS_API_TOKEN="k-1~")  # noqa: S104, S106
    client = server.client
    sent = {"Authorization": "Bearer k-1~"}
    for path in ("/champion", "/metrics"):
        assert client.get(path).status_code == 401
        for other in ("Bearer x", "Bearer k-1", b"Bearer k-1~\xff", "Basic k-1~"):
            assert client.get(path, headers={"Authorization": other}).status_code == 401
    assert client.post("/predict", json=as_json(IMAGE)).status_code == 401
    # The token is checked before the body is read.
    for body in (b"", b"{", b"no image", bytes(10_000_001)):
        for kind in ("application/json", "image/png"):
            refused = client.post("/predict", content=body, headers={"Content-Type": kind})
            assert refused.status_code == 401
    assert client.post("/corrections", json={}).status_code == 401
    assert client.get("/healthz").status_code == client.get("/").status_code == 200
    assert client.get("/champion", headers=sent).status_code == 200
    assert client.post("/predict", json=as_json(IMAGE), headers=sent).status_code == 200
    assert "k-" not in server.process.output


def test_metrics_count_requests_predictions_and_confidence(serve):
    client = serve().client
    digit = client.post("/predict", json=as_json(IMAGE)).json()["predictions"][0]["digit"]
    client.post("/predict", content=b"nothing")
    client.get("/whatever/1")

    text = client.get("/metrics").text
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
        assert line in text.splitlines(), text


def test_docs_and_page_need_no_other_host(server):
    client = server.client
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
    server = serve()
    process = server.process
    with socket.create_connection(server.address) as slow:
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


def test_a_port_in_use_and_a_missing_champion_are_reported_in_one_line(serve, digits, home):
    _, port = serve().address
    in_use = digits("serve", "--port", str(port))
    assert in_use.returncode == 1
    assert in_use.stderr.count("\n") == 1
    assert "in use" in in_use.stderr
    without = digits("serve", "--port", "0", DIGITS_HOME=str(home / "other"))
    assert without.returncode == 1
    assert "digits retrain" in without.stderr
    assert digits("serve", "--host", "no.such.host.invalid", DIGITS_API_TOKEN="x").returncode == 1  # noqa: S106


def test_openapi_describes_bodies_and_errors(server):
    schema = server.client.get("/openapi.json").json()
    predict, correct = (schema["paths"][path]["post"] for path in ("/predict", "/corrections"))

    def reference(content: dict) -> str:
        return content["application/json"]["schema"]["$ref"].rpartition("/")[2]

    bodies = predict["requestBody"]["content"]
    assert set(bodies) == {
        "application/json", "image/png", "image/jpeg", "image/webp", "image/bmp",
    }  # fmt: skip
    assert bodies["image/png"]["schema"] == {"type": "string", "format": "binary"}
    assert reference(bodies) == "Images"
    assert reference(correct["requestBody"]["content"]) == "Correction"
    assert reference(predict["responses"]["200"]["content"]) == "Predictions"
    assert reference(correct["responses"]["201"]["content"]) == "StoredCorrection"
    for status in ("401", "408", "413", "415", "422", "503"):
        for operation in (predict, correct):
            assert reference(operation["responses"][status]["content"]) == "ErrorDetail"
