"""What several commands look up: runs, the selected dataset, the current user."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

from storage.errors import RunNotFoundError, VersionNotFoundError
from storage.settings import Settings, read_settings

if TYPE_CHECKING:
    from storage.tables.runs import Runs
    from storage.tables.schema import Run


def find_run(run_id: str) -> Run:
    """Read the row of a run.

    Raises:
        RunNotFoundError: If there is none.
    """
    if not has_runs():
        raise RunNotFoundError(
            f"expected the id of a run, received {run_id!r}; there are no runs yet"
        )
    return open_runs().get(run_id)


def open_runs() -> Runs:
    """Open the table of runs that the settings name."""
    from storage.tables.database import open_database
    from storage.tables.runs import Runs

    settings = read_settings()
    return Runs(open_database(settings.database_url), settings.lease_s)


def has_runs() -> bool:
    """Whether the table of runs exists."""
    from storage.tables.database import has_database

    return has_database(read_settings().database_url)


def only_dataset(settings: Settings, dataset: str | None) -> str:
    """The name of the given dataset, or of the only one that has a champion.

    Raises:
        VersionNotFoundError: If no dataset is given and there is no champion, or more than one.
    """
    names = dataset_names(settings, dataset)
    if len(names) != 1:
        raise VersionNotFoundError(
            f"expected --dataset with one of {', '.join(names)}"
            if names
            else f"expected a champion in {settings.models}, found none yet;"
            " train one: digits retrain --dataset mnist-5k"
        )
    return names[0]


def dataset_names(settings: Settings, dataset: str | None) -> list[str]:
    """The name of the given dataset or folder, or of every dataset that has a champion."""
    from storage.models.store import store_names
    from tasks.data.sources import locate

    return store_names(settings) if dataset is None else [locate(dataset)[1]]


def current_user() -> str:
    """The user who runs this command, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = "unknown"
    return f"{user}@{socket.gethostname()}".encode(errors="replace").decode()
