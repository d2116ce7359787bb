"""Whether a run's process lives: it locks a file, and the system frees the lock when it ends.

No clock and no process id is asked, so a suspended machine, a stopped process, a clock that was set
back and an id that was given to another process mislead no one.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("digits")


@contextmanager
def sign_of_life(home: Path, run_id: str) -> Iterator[None]:
    """Hold the run's file locked; where that is impossible, the lease alone shows life."""
    path = _file(home, run_id)
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(new, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        log.warning("only the lease of run %s shows that it is alive: %s", run_id, error)
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            new.rename(path)  # nobody sees it without its lock
        except OSError as error:
            log.warning("only the lease of run %s shows that it is alive: %s", run_id, error)
        yield
    finally:
        new.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        os.close(handle)


def process_lives(home: Path, run_id: str) -> bool | None:
    """Whether the process of a run lives; None if it left no file, or it cannot be asked."""
    try:
        handle = os.open(_file(home, run_id), os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def forget(home: Path, run_id: str) -> None:
    """Remove the file of a dead run."""
    _file(home, run_id).unlink(missing_ok=True)


def _file(home: Path, run_id: str) -> Path:
    return home / "running" / run_id
