"""Waiting for an SQLite file that another program holds, and who that may be."""

import logging
import os
import sqlite3
import time
from contextlib import suppress

from storage.errors import DatabaseError

log = logging.getLogger("digits")

# SQLite waits this long in one try. While it waits for the last reader it lets no new one in, so
# a longer try would block `digits history` for as long as a notebook keeps a half-read result.
TRY_S = 1.0
PAUSE_S = 0.25
TELL_AFTER_S = 10.0


def execute_patiently(
    connection: sqlite3.Connection, statement: str, path: str, wait_s: float
) -> None:
    """Execute a statement that takes a lock; try again while another program holds the file.

    Args:
        connection: With a timeout of TRY_S.
        statement: Without parameters; its result is discarded.
        path: Of the database file.
        wait_s: Seconds after which to give up. After TELL_AFTER_S the log says who is waited for.

    Raises:
        DatabaseError: If the file is still held then; the message names the likely holder.
    """
    began, told = time.monotonic(), False
    while True:
        try:
            connection.execute(statement).close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            waited = time.monotonic() - began
            if waited >= wait_s:
                raise DatabaseError(
                    f"expected to use the metrics database {path} within {wait_s:.0f} s, but"
                    f" another program holds it: {holders(path)}; close it, or end what it has"
                    " begun there"
                ) from error
            if waited >= TELL_AFTER_S and not told:
                log.warning(
                    "another program holds the metrics database %s: %s; waiting for up to %.0f s",
                    path, holders(path), wait_s,
                )  # fmt: skip
                told = True
            time.sleep(PAUSE_S)
        else:
            return


def holders(path: str) -> str:
    """Name the other processes that have a file open, as far as this user may see them."""
    import psutil

    real, found = os.path.realpath(path), []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and real in {file.path for file in process.open_files()}:
                found.append(f"{process.name()} (process {process.pid})")
    return ", ".join(found) or "no process that this user can see, so another user's or machine's"
