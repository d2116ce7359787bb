"""Settings: the environment is read here and nowhere else.

A plain dataclass, not pydantic-settings: that library alone costs `digits history` 0.2 s.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from storage.errors import InvalidParameterError

SQLITE = "sqlite:///"
PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Settings:
    """Where a run leaves what it makes.

    Args:
        home: Folder of everything that has no place of its own.
        database_url: SQLAlchemy URL of the metrics table.
        models: Folder of the model store.
        lease_s: Seconds without a sign of life after which a run counts as lost.
        keep_versions: Predecessors of the champion that are kept for a rollback.
        api_token: What callers of `digits serve` have to name; None means nothing.
    """

    home: Path
    database_url: str
    models: Path
    lease_s: float
    keep_versions: int
    api_token: str | None = field(default=None, repr=False)


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read DIGITS_HOME, _DATABASE_URL, _MODELS_URL, _LEASE_S, _KEEP_VERSIONS and _API_TOKEN.

    Raises:
        InvalidParameterError: If DIGITS_MODELS_URL is no local folder, DIGITS_LEASE_S no
            number of seconds from 1 to 86400, DIGITS_KEEP_VERSIONS none from 1 to 1000, or
            DIGITS_API_TOKEN nothing that an HTTP header can carry.
    """
    home = _absolute("DIGITS_HOME", environment.get("DIGITS_HOME") or str(PROJECT / "var"))
    if "?" in str(home):
        raise InvalidParameterError(
            f"DIGITS_HOME: expected a folder without '?' in its path, received {str(home)!r}"
        )
    url = environment.get("DIGITS_DATABASE_URL") or f"{SQLITE}{home / 'metrics.db'}"
    if url.startswith(SQLITE) and url != f"{SQLITE}:memory:":
        # A worker's runs start in another folder than the person who says `sqlite:///my.db`.
        url = f"{SQLITE}{Path(url.removeprefix(SQLITE)).absolute()}"
    return Settings(
        home=home,
        database_url=url,
        models=_folder(environment.get("DIGITS_MODELS_URL"), home / "models"),
        lease_s=_number(environment, "DIGITS_LEASE_S", 120.0, "seconds from 1 to 86400", 86400),
        keep_versions=int(
            _number(environment, "DIGITS_KEEP_VERSIONS", 10, "a whole number from 1 to 1000", 1000)
        ),
        api_token=_token(environment.get("DIGITS_API_TOKEN")),
    )


def _token(given: str | None) -> str | None:
    if given and not re.fullmatch("[!-~]+", given):
        raise InvalidParameterError(
            "DIGITS_API_TOKEN: expected letters, digits and signs of ASCII without spaces,"
            " received others; `openssl rand -hex 32` makes one"
        )
    return given or None


def _folder(url: str | None, default: Path) -> Path:
    if not url:
        return default
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path[:1] == "/":
        return Path(unquote(parts.path))
    if parts.scheme:
        raise InvalidParameterError(
            "DIGITS_MODELS_URL: expected a folder or a file:// URL with an absolute path,"
            f" received one that begins with {parts.scheme}:"
        )
    return _absolute("DIGITS_MODELS_URL", url)


def _absolute(name: str, path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # ~somebody who is not there
        raise InvalidParameterError(
            f"{name}: expected a folder, received {path!r} ({error})"
        ) from error


def _number(
    environment: Mapping[str, str], name: str, default: float, expected: str, most: int
) -> float:
    text = environment.get(name)
    try:
        number = type(default)(text) if text else default
    except ValueError:
        number = float("nan")
    if not 1 <= number <= most:
        raise InvalidParameterError(f"{name}: expected {expected}, received {text!r}")
    return number
