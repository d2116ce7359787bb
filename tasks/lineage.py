"""Where a run comes from: code, libraries, host and flow run."""

import platform
import socket
import subprocess
from importlib.metadata import version
from typing import Any

from prefect.runtime import flow_run

from storage.settings import PROJECT

LIBRARIES = ("digits", "keras", "numpy", "prefect", "tensorflow")


def lineage() -> dict[str, Any]:
    """Columns of the run's row: code_commit, code_dirty, versions, host, flow_run_id.

    The commit is None where the project is not in a git repository, or git is not installed.
    """
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain") if commit else None
    return {
        "code_commit": commit,
        "code_dirty": None if changes is None else bool(changes),
        "versions": {
            "python": platform.python_version(),
            **{library: version(library) for library in LIBRARIES},
        },
        "host": socket.gethostname(),
        "flow_run_id": flow_run.id,
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
