"""Files that a power cut does not take back: written, and held by the disk."""

import hashlib
import os
from pathlib import Path


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, text: str) -> None:
    """Write a text file of one line or more, and have the disk hold it."""
    path.write_text(text + "\n", encoding="utf-8")
    sync(path)


def sync(path: Path) -> None:
    """Have the disk, not only the system's memory, hold a file or a folder's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing, and have the disk hold them."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)
