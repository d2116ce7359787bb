"""Settings: every ``DIGITS_*`` environment variable is read here and nowhere else.

A plain dataclass: importing pydantic-settings alone would add 0.2 s to `digits history`.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from storage.errors import InvalidParameterError

SQLITE = "sqlite:///"
HOST = r"[\w.-]+|\[[\da-f:.]+\]"
"""A host's name or address as a URL has it, in lower case."""
LONGEST_LEASE_S = 86400
ORIGIN = rf"https?://({HOST})(:\d+)?"
PROJECT = Path(__file__).resolve().parents[1]
IN_A_WORKER = "PREFECT__FLOW_RUN_ID"
"""A variable that Prefect sets in the process of a worker's run."""

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Settings:
    """Where a run leaves its results, and how long they are kept.

    Args:
        home: Folder of everything that is not moved elsewhere by another setting.
        database_url: SQLAlchemy URL of the metrics database.
        models: Folder of the model store.
        lease_s: Seconds without a heartbeat after which a run counts as lost.
        keep_versions: Number of the champion's predecessors kept for a rollback.
        api_token: Bearer token that clients of `digits serve` must send; None requires none.
        allowed_hosts: Host names, in lower case, that `digits serve` is called by besides its own.
        allowed_origins: Origins whose pages may call `digits serve` from a browser.
    """

    home: Path
    database_url: str = field(repr=False)  # it may contain a password
    models: Path
    lease_s: float
    keep_versions: int
    api_token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings from environment variables; an empty variable counts as not set.

    Raises:
        InvalidParameterError: If DIGITS_HOME or DIGITS_MODELS_URL is not a local folder,
            DIGITS_LEASE_S or DIGITS_KEEP_VERSIONS is out of range, DIGITS_API_TOKEN cannot be
            sent in an HTTP header, or DIGITS_ALLOWED_HOSTS or DIGITS_ALLOWED_ORIGINS holds
            anything else.
    """
    home = _read_home(environment)
    return Settings(
        home=home,
        database_url=_read_database_url(environment, home),
        models=_read_models_folder(environment, home),
        lease_s=_read_number(
            environment, "DIGITS_LEASE_S", 120.0, "a number of seconds", LONGEST_LEASE_S
        ),
        keep_versions=_read_number(environment, "DIGITS_KEEP_VERSIONS", 10, "a whole number", 1000),
        api_token=_read_api_token(environment),
        allowed_hosts=_read_names(environment, "DIGITS_ALLOWED_HOSTS", HOST, "digits.example.com"),
        allowed_origins=_read_names(
            environment, "DIGITS_ALLOWED_ORIGINS", ORIGIN, "https://app.example.com"
        ),
    )


def night_of(moment: datetime) -> date:
    """The day of a moment (UTC if it is naive) in the time zone of the schedule in `prefect.yaml`.

    UTC if there is no such file or no such zone.
    """
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(_schedule_zone()).date()


@cache
def _schedule_zone() -> tzinfo:
    import yaml

    try:
        deployment = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"][0]
        return ZoneInfo(deployment["schedules"][0]["timezone"])
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError):
        return UTC


def _read_home(environment: Mapping[str, str]) -> Path:
    home = _absolute(environment, "DIGITS_HOME", environment.get("DIGITS_HOME") or f"{PROJECT}/var")
    if "?" in str(home):  # SQLAlchemy would read the rest as the URL's query
        raise InvalidParameterError(
            f"DIGITS_HOME: expected a folder without '?' in its path, received {str(home)!r}"
        )
    return home


def _read_database_url(environment: Mapping[str, str], home: Path) -> str:
    url = environment.get("DIGITS_DATABASE_URL") or f"{SQLITE}{home / 'metrics.db'}"
    if url.startswith(SQLITE) and url != f"{SQLITE}:memory:":
        # Made absolute, because a worker's runs start in a different folder.
        path = _absolute(environment, "DIGITS_DATABASE_URL", url.removeprefix(SQLITE))
        url = f"{SQLITE}{path}"
    return url


def _read_models_folder(environment: Mapping[str, str], home: Path) -> Path:
    url = environment.get("DIGITS_MODELS_URL")
    if not url:
        return home / "models"
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path[:1] == "/":
        return Path(unquote(parts.path))
    if parts.scheme:  # the rest may contain a password
        raise InvalidParameterError(
            "DIGITS_MODELS_URL: expected a folder or a file:// URL with an absolute path,"
            f" received a {parts.scheme}: URL"
        )
    return _absolute(environment, "DIGITS_MODELS_URL", url)


def _read_api_token(environment: Mapping[str, str]) -> str | None:
    token = environment.get("DIGITS_API_TOKEN")
    if token and not re.fullmatch("[!-~]+", token):
        raise InvalidParameterError(
            "DIGITS_API_TOKEN: expected printable ASCII characters without spaces,"
            " received others; `openssl rand -hex 32` generates a valid token"
        )
    return token or None


def _read_names(
    environment: Mapping[str, str], variable: str, pattern: str, example: str
) -> tuple[str, ...]:
    names = [name.strip().lower() for name in (environment.get(variable) or "").split(",")]
    for name in filter(None, names):
        if not re.fullmatch(pattern, name):
            raise InvalidParameterError(
                f"{variable}: expected names such as {example}, separated by commas,"
                f" received {name!r}"
            )
    return tuple(filter(None, names))


def _read_number(
    environment: Mapping[str, str], name: str, default: N, expected: str, most: int
) -> N:
    text = environment.get(name)
    with suppress(ValueError):
        number = type(default)(text) if text else default
        if 1 <= number <= most:
            return number
    raise InvalidParameterError(f"{name}: expected {expected} from 1 to {most}, received {text!r}")


def _absolute(environment: Mapping[str, str], name: str, path: str) -> Path:
    try:
        path.encode()  # the database and JSON hold UTF-8 only
        found = Path(path).expanduser()
    except (RuntimeError, UnicodeEncodeError) as error:  # RuntimeError: ~nosuch/digits
        raise InvalidParameterError(
            f"{name}: expected a folder, received {path!r} ({error})"
        ) from error
    if IN_A_WORKER in environment and not found.is_absolute():
        raise InvalidParameterError(
            f"{name}: expected an absolute path in the environment of a worker, whose runs start"
            f" in another folder, received {path!r}; start the worker with {name}=$PWD/{path}"
        )
    return found.absolute()
