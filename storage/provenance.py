"""Provenance: the code, libraries, host and flow run that a run comes from."""

import platform
import socket
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version

from storage.settings import PROJECT

LIBRARIES = ("digits", "keras", "numpy", "prefect", "tensorflow")


@dataclass(frozen=True)
class Provenance:
    """Where a run comes from; each field is the column of ``runs`` with its name."""

    code_commit: str | None
    code_dirty: bool | None
    versions: dict[str, str]
    host: str
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
        flow_run_id=flow_run_id,
    )


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(PROJECT), *arguments]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
