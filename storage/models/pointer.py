"""The files that say which version is in use: the pointer, and the history of its swaps.

A swap is written to the history before the pointer moves: a line whose generation the pointer
has not reached did not happen.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from storage.errors import ModelStoreError
from storage.models import files
from storage.records import Pointer, Swap, SwapKind

POINTER = "champion.json"
HISTORY = "history.jsonl"


def read_pointer(folder: Path) -> Pointer | None:
    """Read the pointer of a dataset's folder; None before the first promotion.

    Raises:
        ModelStoreError: If it is there and cannot be understood.
        OSError: If it cannot be read.
    """
    path = folder / POINTER
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        pointer = Pointer(**json.loads(content))
        found = (type(pointer.generation), type(pointer.version), type(pointer.digest))
        if found != (int, str, str):
            raise TypeError(found)
    except (ValueError, TypeError) as error:
        raise ModelStoreError(
            f"{path}: expected JSON with generation, version and digest, received"
            f" {content[:80]!r}; `digits rollback --to RUN` writes it anew"
        ) from error
    return pointer


def read_swaps(folder: Path) -> list[Swap]:
    """Read every line of the history, also one whose swap did not happen.

    Raises:
        ModelStoreError: If a line cannot be understood.
        OSError: If it cannot be read.
    """
    path = folder / HISTORY
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [_swap_of(json.loads(line)) for line in lines]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelStoreError(
            f"{path}: expected a line of JSON for each swap, received something else"
            f" ({error}); move it away, and a new one begins with the champion"
        ) from error


@contextmanager
def prepared(folder: Path, swaps: Sequence[Swap]) -> Iterator[Callable[[], None]]:
    """Write what the last swap needs beside what is there; the call then moves the pointer.

    What can fail for want of space comes before anything is moved.
    """
    history, pointer = folder / f".{HISTORY}.new", folder / f".{POINTER}.new"

    def move() -> None:
        history.replace(folder / HISTORY)
        files.sync(folder)
        pointer.replace(folder / POINTER)
        files.sync(folder)

    try:
        lines = [json.dumps(asdict(swap), default=datetime.isoformat) for swap in swaps]
        files.write(history, "\n".join(lines))
        files.write(pointer, json.dumps(asdict(swaps[-1].pointer), indent=2))
        yield move
    finally:
        for path in (history, pointer):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _swap_of(line: dict[str, Any]) -> Swap:
    return Swap(
        **{
            **line,
            "kind": SwapKind(line["kind"]),
            "swapped_at": datetime.fromisoformat(line["swapped_at"]),
        }
    )
