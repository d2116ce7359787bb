import platform
import re
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from storage.provenance import read_provenance

PROJECT = Path(__file__).resolve().parents[2]


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(PROJECT), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_run_knows_its_libraries_and_host() -> None:
    found = read_provenance("a flow run").columns()
    assert found["versions"]["python"] == platform.python_version()
    for library in ("keras", "tensorflow", "prefect", "numpy"):
        assert found["versions"][library] == version(library)
    assert found["host"] == socket.gethostname()
    assert found["flow_run_id"] == "a flow run"


@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="this is no clone of the repository")
def test_a_run_knows_its_commit_and_whether_the_code_differs_from_it() -> None:
    found = read_provenance("a flow run").columns()
    assert found["code_commit"] == git("rev-parse", "HEAD")
    assert re.fullmatch("[0-9a-f]{40}", found["code_commit"])
    assert found["code_dirty"] is bool(git("status", "--porcelain"))
