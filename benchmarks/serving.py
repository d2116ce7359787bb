"""Compare `digits serve` with other servers of the same model: ``python -m benchmarks.serving``.

Runs three servers of the same champion (mnist-5k) in turns: `digits serve`; FastAPI with
`keras.Model.predict`, as in most tutorials; and `mlflow models serve`, in its own environment,
which the first use installs (a few minutes). Each request sends one image as JSON, from 1 and from
32 clients in a separate process. Prints the medians of the rounds: requests per second, latency,
resident memory including child processes, and the seconds from the start of the process to its
first answer.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.training import PROJECT
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from tasks.load import load

CLIENTS = (1, 32)
GOAL_THROUGHPUT, GOAL_START = 10, 0.1
MLFLOW = PROJECT / ".venv" / "mlflow"
DIGITS = str(Path(sys.executable).with_name("digits"))
OURS = "digits serve"

KERAS_APP = """
import sys
import keras, numpy as np, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

model = keras.models.load_model(sys.argv[1])
app = FastAPI()

class Images(BaseModel):
    images: list[list[list[int]]]

@app.post("/predict")
def predict(given: Images):
    images = np.array(given.images, dtype="float32").reshape(-1, 784) / 255
    answers = model.predict(images, verbose=0)
    return {"digits": answers.argmax(axis=1).tolist(), "probabilities": answers.tolist()}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False)
"""
MLFLOW_SAVE = """
import sys
import keras, mlflow.keras
mlflow.keras.save_model(keras.models.load_model(sys.argv[1]), sys.argv[2])
"""
# The clients run in a separate process, so that the servers have a core to themselves.
LOAD = """
import asyncio, json, sys, time
import httpx

async def main(url, body, clients, seconds):
    body = open(body, "rb").read()
    times, deadline = [], time.perf_counter() + seconds
    async def one():
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            while (began := time.perf_counter()) < deadline:
                answer = await client.post(
                    url, content=body, headers={"Content-Type": "application/json"}
                )
                assert answer.status_code == 200, answer.text
                times.append(time.perf_counter() - began)
    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    took = time.perf_counter() - began
    times.sort()
    print(json.dumps([len(times) / took, times[len(times) // 2], times[len(times) * 99 // 100]]))

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
"""


@dataclass(frozen=True)
class Server:
    """One way to serve.

    Args:
        command: Starts it; the last argument is the port.
        path: That answers.
        body: One image, as this server takes it.
    """

    command: tuple[str, ...]
    path: str
    body: bytes


def main() -> None:
    """Measure, print, and exit with 1 if a goal is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = {
            **os.environ, "DIGITS_HOME": folder, "PREFECT_HOME": f"{folder}/prefect",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }  # fmt: skip
        servers = prepare(home, environment)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for number in range(given.rounds):
            names = list(servers)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                measured = measure(servers[name], home, environment, given.seconds)
                found[name].append(measured)
                print(number, name, {k: round(v, 4) for k, v in measured.items()}, flush=True)
    sys.exit(not report(found))


def prepare(home: Path, environment: Mapping[str, str]) -> dict[str, Server]:
    """Train a champion for the three servers."""
    subprocess.run(
        [DIGITS, "retrain", "--dataset", "mnist-5k", "--seed", "1"],
        check=True, env=environment, capture_output=True,
    )  # fmt: skip
    store = ModelStore(LocalFolder(home / "models"), "mnist-5k")
    champion = store.champion()
    if champion is None:
        sys.exit("expected a champion, found none")
    keras_file = str(store.version(champion.version) / "model.keras")
    image = load.fn("mnist-5k").test_images[0]
    plain = json.dumps({"images": [image.tolist()]}).encode()
    flat = (image.reshape(1, 784) / np.float32(255)).tolist()
    app = home / "keras_app.py"
    app.write_text(KERAS_APP)
    servers = {
        OURS: Server((DIGITS, "serve", "--port"), "/predict", plain),
        "FastAPI, Keras predict": Server(
            (sys.executable, str(app), keras_file), "/predict", plain
        ),
    }  # fmt: skip
    if python := mlflow_environment():
        model = home / "mlflow"
        subprocess.run([python, "-c", MLFLOW_SAVE, keras_file, str(model)], check=True,
                       env=environment, capture_output=True)  # fmt: skip
        servers["mlflow models serve"] = Server(
            (str(Path(python).with_name("mlflow")), "models", "serve", "--model-uri", str(model),
             "--env-manager", "local", "--host", "127.0.0.1", "--port"),
            "/invocations", json.dumps({"inputs": flat}).encode(),
        )  # fmt: skip
    return servers


def mlflow_environment() -> str | None:
    """Path of MLflow's Python, installed on first use; None, with a message, if that fails."""
    python = MLFLOW / "bin" / "python"
    if not python.exists():
        uv = str(PROJECT / ".venv" / "uv")
        try:
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, MLFLOW], check=True)
            subprocess.run(
                [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python,
                 "mlflow", "keras", "tensorflow"],
                check=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            print(f"mlflow models serve: could not be installed ({error})")
            return None
    return str(python)


@contextmanager
def started(server: Server, environment: Mapping[str, str]) -> Iterator[tuple[str, float, Any]]:
    """Start a server; yield its process, its URL and the seconds until its first answer."""
    port = free_port()
    url = f"http://127.0.0.1:{port}{server.path}"
    path = f"{Path(server.command[0]).parent}{os.pathsep}{environment['PATH']}"
    began = time.perf_counter()
    process = psutil.Popen(
        [*server.command, str(port)],
        env={**environment, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                answer = httpx.post(
                    url, content=server.body, headers={"Content-Type": "application/json"},
                    timeout=60,
                )  # fmt: skip
                answer.raise_for_status()
                break
            except httpx.TransportError:
                if process.poll() is not None or time.perf_counter() - began > 180:
                    sys.exit(f"expected {' '.join(server.command)} to answer, it does not")
                time.sleep(0.01)
        yield url, time.perf_counter() - began, process
    finally:
        everything = [*process.children(recursive=True), process]
        for one in everything:
            one.terminate()
        psutil.wait_procs(everything, timeout=30)


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(
    server: Server, home: Path, environment: Mapping[str, str], seconds: float
) -> dict[str, float]:
    """One round of one server."""
    body = home / "body"
    body.write_bytes(server.body)
    with started(server, environment) as (url, start_s, process):
        found = {"start, s": start_s}
        for clients in CLIENTS:
            done = subprocess.run(
                [sys.executable, "-c", LOAD, url, str(body), str(clients), str(seconds)],
                check=True,
                capture_output=True,
            )
            rate, p50, p99 = json.loads(done.stdout)
            found |= {
                f"{clients}: requests/s": rate, f"{clients}: p50, ms": 1000 * p50,
                f"{clients}: p99, ms": 1000 * p99,
            }  # fmt: skip
        everything = [process, *process.children(recursive=True)]
        found["memory, MiB"] = sum(one.memory_info().rss for one in everything) / 2**20
    return found


def report(found: Mapping[str, list[dict[str, float]]]) -> bool:
    """Print the table and the goals; return whether all are met."""
    middle = {
        name: {column: median(r[column] for r in rounds) for column in rounds[0]}
        for name, rounds in found.items()
    }
    columns = list(middle[OURS])
    print(f"\nMedians of {len(found[OURS])} round(s); clients before the colon")
    print(f"{'':24}" + "".join(f"{column:>16}" for column in columns))
    for name, values in middle.items():
        print(f"{name:24}" + "".join(f"{values[column]:16,.2f}" for column in columns))
    met = True
    for name, values in middle.items():
        if name == OURS:
            continue
        for clients in CLIENTS:
            column = f"{clients}: requests/s"
            ratio = middle[OURS][column] / values[column]
            met &= ratio >= GOAL_THROUGHPUT
            print(f"{column}, ours / {name}: {ratio:.1f}   at least {GOAL_THROUGHPUT}: "
                  f"{'met' if ratio >= GOAL_THROUGHPUT else 'not met'}")  # fmt: skip
        ratio = middle[OURS]["start, s"] / values["start, s"]
        met &= ratio <= GOAL_START
        print(f"start, ours / {name}: {ratio:.3f}   at most {GOAL_START}: "
              f"{'met' if ratio <= GOAL_START else 'not met'}")  # fmt: skip
    return met


if __name__ == "__main__":
    main()
