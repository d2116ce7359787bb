"""Provenance: the code, libraries, host and flow run that a run comes from."""

import os
import platform
import re
import socket
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version

from storage.settings import PROJECT

LIBRARIES = ("digits", "keras", "numpy", "prefect", "tensorflow")
# Whatever TensorFlow and its libraries read: threads, oneDNN, determinism, XLA, devices.
VARIABLES = re.compile(r"(TF|XLA|OMP|KMP|MKL|ONEDNN|DNNL|OPENBLAS|CUDA)_(?!CPP_)\w+")


@dataclass(frozen=True)
class Provenance:
    """Where a run comes from; each field is the column of ``runs`` with its name.

    Args:
        environment: What else decides the weights: the processors, and variables that are set.
    """

    code_commit: str | None
    code_dirty: bool | None
    versions: dict[str, str]
    host: str
    environment: dict[str, str]
    flow_run_id: str | None

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        return asdict(self)


def read_provenance(flow_run_id: str | None) -> Provenance:
    """Ask git, the installed packages and the operating system."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain") if commit else None
    versions = {library: version(library) for library in LIBRARIES}
    return Provenance(
        code_commit=commit,
        code_dirty=None if changes is None else bool(changes),
        versions={"python": platform.python_version(), **versions},
        host=socket.gethostname(),
        environment=_environment(),
        flow_run_id=flow_run_id,
    )


def _environment() -> dict[str, str]:
    variables = {k: v for k, v in sorted(os.environ.items()) if VARIABLES.fullmatch(k)}
    # TensorFlow starts a thread for each, unless a variable says otherwise.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processors": str(usable), **variables}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(PROJECT), *arguments]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
