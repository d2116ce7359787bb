"""What the tests of flows share: a home of their own, and the command as a process."""

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.testing.utilities import prefect_test_harness

# Begun in the background of a shell, a process may ignore SIGINT, and then all that it starts.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

DIGITS = str(Path(sys.executable).with_name("digits"))
Digits = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """DIGITS_HOME of one test."""
    return tmp_path / "var"


def new_user(folder: Path, home: Path) -> dict[str, str]:
    """The environment of a user who has never run digits or Prefect."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DIGITS_", "PREFECT_"))}
    return {
        **kept,
        "HOME": str(folder),
        "PREFECT_HOME": str(folder / "prefect"),
        "DIGITS_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
    }


@pytest.fixture(scope="session")
def font_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Matplotlib's, which takes seconds to build: shared by the commands of all tests."""
    return str(tmp_path_factory.mktemp("matplotlib"))


@pytest.fixture
def environment(tmp_path: Path, home: Path, font_cache: str) -> dict[str, str]:
    """The environment of this test's commands."""
    return {**new_user(tmp_path, home), "MPLCONFIGDIR": font_cache}


@pytest.fixture
def digits(environment: dict[str, str], tmp_path: Path) -> Digits:
    """Run the command in a folder that is not the project's; extra settings as keywords."""

    def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [DIGITS, *arguments],
            check=False,
            cwd=tmp_path,
            env={**environment, **settings},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture
def peak_kib(environment: dict[str, str]) -> Callable[..., int]:
    """The peak resident memory, in KiB, of a program in a process of its own."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )

    def measure(*arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            check=False, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return int(done.stdout.splitlines()[-1])

    return measure


class Started:
    """A command that is running, and what it has printed so far."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [DIGITS, *arguments],
                cwd=log.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str, timeout_s: float = 600) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{text!r} was never printed:\n{self.output}")
            time.sleep(0.1)

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(300)


@contextmanager
def background(
    arguments: tuple[str, ...], environment: dict[str, str], log: Path
) -> Iterator[Started]:
    """Run the command in the background; the end of the block stops it and all its children."""
    started = Started(arguments, environment, log)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            children = psutil.Process(started.process.pid).children(recursive=True)
            try:
                started.stop(signal.SIGTERM)
            except subprocess.TimeoutExpired:
                started.process.kill()
                started.process.wait()
            for child in children:
                if child.is_running():
                    child.kill()


@pytest.fixture
def started(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Start the command and leave it running; the test's end stops it and all its children."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def start(*arguments: str, **settings: str) -> Started:
            log = tmp_path / f"output-{next(numbers)}.txt"
            return stack.enter_context(background(arguments, {**environment, **settings}, log))

        yield start


@pytest.fixture(scope="module")
def started_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Started]]:
    """Start a command that the tests of a file share, with DIGITS_HOME as given."""
    folder = tmp_path_factory.mktemp("shared")
    with ExitStack() as stack:

        def start(home: Path, *arguments: str) -> Started:
            running = background(arguments, new_user(folder, home), folder / "output.txt")
            return stack.enter_context(running)

        yield start


@pytest.fixture(scope="session")
def trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DIGITS_HOME with a champion of mnist-5k, trained once; copy it before changing it."""
    folder = tmp_path_factory.mktemp("trained")
    subprocess.run(
        [DIGITS, "retrain", "--dataset", "mnist-5k", "--seed", "1"],
        check=True, cwd=folder, env=new_user(folder, folder / "var"), capture_output=True,
    )  # fmt: skip
    return folder / "var"


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """One Prefect server for all tests that run the flow in this process; its URL."""
    with (
        prefect_test_harness(server_startup_timeout=300),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def running_server(environment: dict[str, str], prefect_server: str) -> dict[str, str]:
    """The user runs a server, so that the command need not start its own."""
    environment["PREFECT_API_URL"] = prefect_server
    return environment
