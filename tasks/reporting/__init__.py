"""What a run leaves for people: the report's text and pictures, and artifacts' keys."""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("digits")


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Turn an exception into a warning: the model is promoted or not, whatever fails here."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        log.warning("%s failed: %s", what, error)


def artifact_key(kind: str, name: str) -> str:
    """The key of an artifact of the runs kept under a name, e.g. ``report-mnist``.

    Prefect takes lowercase letters, digits and dashes. A name with other characters gets them
    replaced and the start of its SHA-256 appended: ``a.b`` and ``A_b`` have keys of their own.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if slug == name:
        return f"{kind}-{name}"
    return f"{kind}-{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
