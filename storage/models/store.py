"""The model store: immutable versions, and one pointer that names the champion.

    models/<dataset>/champion.json     the pointer; swapping it is the promotion
    models/<dataset>/history.jsonl     every swap of it, oldest first
    models/<dataset>/versions/<run>/   model.keras, model.tflite, golden.npz, manifest.json
    models/<dataset>/staging/<run>/    a candidate, before the gate has accepted it

A reader opens the pointer, then the version it names. Versions never change, so it never
sees a mixture of two.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from storage.errors import (
    DamagedModelError,
    InvalidParameterError,
    ModelStoreError,
    VersionNotFoundError,
)
from storage.models import files
from storage.models.backends import LocalFolder
from storage.models.history import History
from storage.models.pointer import HISTORY, POINTER, prepared, read_pointer, read_swaps
from storage.models.versions import MANIFEST, Version, read_version, write_version
from storage.records import Pointer, Swap, SwapKind
from storage.settings import Settings

LOCK_TIMEOUT_S = 60


class ModelStore:
    """The versions and the champion kept under one name.

    Args:
        backend: Where every store's files are.
        name: What the champions are kept under.
        keep_versions: Predecessors of the champion that are kept for a rollback.

    Every method raises ModelStoreError if the folder cannot be read or written.
    """

    def __init__(self, backend: LocalFolder, name: str, keep_versions: int = 10) -> None:
        self.name = name
        self.folder = backend.local / name
        self._keep_versions = keep_versions
        self._versions = self.folder / "versions"
        self._staging = self.folder / "staging"

    def stage(self, run_id: str, write: Callable[[Path], None], origin: dict[str, Any]) -> str:
        """Make a candidate: files on disk, with a manifest that holds their SHA-256.

        Args:
            run_id: Names the candidate, and the version that it may become.
            write: Writes the model's files into the folder that it is given.
            origin: What the manifest says about the model's origin, as JSON values.

        Returns:
            SHA-256 of the candidate's manifest, hexadecimal.
        """
        with self._store_errors():
            return write_version(self.candidate(run_id), run_id, write, origin)

    def promote(
        self, run_id: str, digest: str, seen: Pointer | None, *, actor: str, reason: str
    ) -> Swap | None:
        """Make the candidate the champion: it becomes a version, then the pointer is swapped.

        Args:
            run_id: The candidate.
            digest: What ``stage`` returned; the candidate is read and checked once more.
            seen: The pointer that the candidate was compared with.
            actor: Who or what promotes it.
            reason: Why.

        Returns:
            The swap; None if the champion is another one than ``seen`` by now, in which
            case nothing has changed and the comparison has to be made again.
        """
        with self.locked():
            if self.champion() != seen:
                return None
            manifest = read_version(self.candidate(run_id), digest).manifest
            swap = Swap(
                generation=seen.generation + 1 if seen else 1,
                version=run_id,
                digest=digest,
                predecessor=seen.version if seen else None,
                kind=SwapKind.PROMOTION,
                actor=actor,
                reason=reason,
                swapped_at=datetime.now(UTC),
                weights_digest=manifest.get("weights_digest"),
                test_correct=manifest.get("test_correct"),
                test_total=manifest.get("test_total"),
                test_digest=manifest.get("test_digest"),
            )
            self._swap(self.history(), swap, candidate=self.candidate(run_id))
        return swap

    def rollback(self, to: str | None, *, actor: str, reason: str) -> Swap:
        """Point to an earlier version, after it was loaded and has answered as it did.

        Args:
            to: The version; None means the champion's predecessor with other weights.
            actor: Who asks for it.
            reason: Why.

        Raises:
            VersionNotFoundError: If there is no champion, no predecessor or no such version.
            InvalidParameterError: If ``to`` is the champion already.
            DamagedModelError: If the version cannot be put to use; the champion stays.
        """
        nothing = VersionNotFoundError(
            f"expected a champion of {self.name} to roll back from, found none in"
            f" {self.folder.parent}"
        )
        with self._store_errors():
            if not any((self.folder / name).exists() for name in (POINTER, HISTORY)):
                raise nothing
        with self.locked():
            history, pointer_is_sound = self._history_for_rollback()
            if not history.swaps:
                raise nothing
            champion = history.swaps[-1]
            if to == champion.version and pointer_is_sound:
                raise InvalidParameterError(
                    f"--to: expected another version than the champion, received {to}"
                )
            target = self._target(history, to, pointer_is_sound)
            # LiteRT and NumPy: imported by who needs them.
            from storage.models.classifier import load_classifier

            try:
                load_classifier(self.version(target.version), target.digest)
            except DamagedModelError as error:
                raise DamagedModelError(
                    f"{error}; name another one with --to RUN ({', '.join(self.kept())})"
                ) from error
            swap = replace(
                target,
                generation=champion.generation + 1,
                predecessor=champion.version,
                kind=SwapKind.ROLLBACK,
                actor=actor,
                reason=reason,
                swapped_at=datetime.now(UTC),
            )
            self._swap(history, swap)
        return swap

    def discard(self, run_id: str) -> None:
        """Remove a candidate that is not to be promoted; nothing happens if there is none."""
        shutil.rmtree(self.candidate(run_id), ignore_errors=True)

    def champion(self) -> Pointer | None:
        """Read the pointer; None before the first promotion.

        Raises:
            ModelStoreError: If it cannot be understood, or is gone while the history tells
                of more than a first promotion, which a crash may have cut short.
        """
        with self._store_errors():
            pointer = read_pointer(self.folder)
            if pointer is None and any(s.generation > 1 for s in read_swaps(self.folder)):
                # Or the first promotions happened between the two looks.
                if pointer := read_pointer(self.folder):
                    return pointer
                raise ModelStoreError(
                    f"{self.folder / POINTER}: expected the pointer that {HISTORY} tells of,"
                    " found none; `digits rollback --to RUN` writes it anew"
                )
            return pointer

    def read_champion(self) -> tuple[Pointer, Version] | None:
        """Read the champion's version, each byte checked; None before the first promotion.

        Raises:
            DamagedModelError: If a file of it is not what its digest says.
        """
        while pointer := self.champion():
            try:
                return pointer, read_version(self.version(pointer.version), pointer.digest)
            except ModelStoreError:
                # After many swaps in a moment the version may have been removed.
                if self.champion() == pointer:
                    raise
        return None

    def history(self) -> History:
        """Every swap of the pointer that happened, oldest first.

        Raises:
            ModelStoreError: If the pointer or the history cannot be understood.
        """
        pointer = self.champion()
        if pointer is None:
            return History(())
        history = History(tuple(self._read_swaps())).until(pointer)
        if history.swaps and history.swaps[-1].pointer == pointer:
            return history
        return History((*history.swaps, self._unrecorded(pointer)))

    def candidate(self, run_id: str) -> Path:
        """The folder of a candidate."""
        return self._staging / run_id

    def version(self, run_id: str) -> Path:
        """The folder of a version."""
        return self._versions / run_id

    def kept(self) -> list[str]:
        """The versions that are there, newest run first."""
        with self._store_errors():
            if not self._versions.is_dir():
                return []
            return sorted((path.name for path in self._versions.iterdir()), reverse=True)

    def _history_for_rollback(self) -> tuple[History, bool]:
        """The history, and whether the pointer is sound; a rollback also mends one that is not."""
        try:
            return self.history(), True
        except ModelStoreError:
            swaps = self._read_swaps()
            if not swaps:
                raise
            return History(tuple(swaps)), False

    def _target(self, history: History, to: str | None, pointer_is_sound: bool) -> Swap:
        if to is None:
            if history.predecessor is None:
                champion = history.swaps[-1].version
                others = ", ".join(
                    name for name in self.kept() if name != champion or not pointer_is_sound
                )
                raise VersionNotFoundError(
                    f"expected a predecessor of {champion} with other weights, found none; "
                    + (
                        f"kept are {others}: name one with --to RUN"
                        if others
                        else f"if it is damaged, move {self.folder} away: the next run begins anew"
                    )
                )
            return history.predecessor
        if to not in self.kept():
            raise VersionNotFoundError(
                f"--to: expected one of the versions that are kept"
                f" ({', '.join(self.kept())}), received {to!r}"
            )
        recorded = history.of(to)
        if recorded is None:
            with self._store_errors():
                digest = files.sha256(self.version(to) / MANIFEST)
            return self._unrecorded(Pointer(0, to, digest))
        return recorded

    def _swap(self, history: History, swap: Swap, candidate: Path | None = None) -> None:
        """Write the history, then move the pointer: before it nothing, after it everything."""
        history = History((*history.swaps, swap))
        with prepared(self.folder, history.swaps) as move:
            if candidate:
                files.make_folder(self._versions)
                candidate.rename(self.version(swap.version))
                files.sync(self._versions)
            move()
        # Of versions from before a history that was lost nobody knows what they are good for.
        first = history.swaps[0]
        known = {v for v in self.kept() if first.generation == 1 or v >= first.version}
        for name in known - history.kept(self._keep_versions):
            shutil.rmtree(self.version(name), ignore_errors=True)

    def _read_swaps(self) -> list[Swap]:
        with self._store_errors():
            return read_swaps(self.folder)

    def _unrecorded(self, pointer: Pointer) -> Swap:
        """What can be said of a swap that the history does not hold."""
        manifest = read_version(self.version(pointer.version), pointer.digest).manifest
        return Swap(
            **asdict(pointer),
            predecessor=None,
            kind=SwapKind.PROMOTION,
            actor="unknown",
            reason="not in the history",
            swapped_at=datetime.now(UTC),
            weights_digest=manifest.get("weights_digest"),
            test_correct=manifest.get("test_correct"),
            test_total=manifest.get("test_total"),
            test_digest=manifest.get("test_digest"),
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from moving the pointer, or a candidate, meanwhile."""
        with self._store_errors(), FileLock(self.folder / ".lock", timeout=LOCK_TIMEOUT_S):
            yield

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ModelStoreError(
                f"the model store {self.folder} cannot be used: {error};"
                " check DIGITS_HOME and DIGITS_MODELS_URL, and the space on the disk"
            ) from error


def open_store(settings: Settings, name: str) -> ModelStore:
    """Return the store of a name, wherever the settings keep the models."""
    return ModelStore(LocalFolder(settings.models), name, settings.keep_versions)


def store_names(settings: Settings) -> list[str]:
    """List the names that have a champion, or a history of one."""
    found = (path for name in (POINTER, HISTORY) for path in settings.models.glob(f"*/{name}"))
    return sorted({path.parent.name for path in found})
