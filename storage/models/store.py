"""The model store: immutable versions, and one pointer that names the champion.

    models/<name>/champion.json     the pointer: generation, version, digest and state
    models/<name>/states/           history, kept versions, runs that were given up
    models/<name>/versions/<run>/   model.keras, model.tflite, golden.npz, unsure.npz, manifest.json
    models/<name>/staging/<run>/    a candidate, before the gate has accepted it

A reader opens the pointer, then the version it names. Versions never change, so it never
sees a mixture of two. A version that no state keeps belongs to its run: the run withdraws it if
the swap fails, and the next run deletes it if its run has died.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.errors import DamagedModelError, DamagedStateError, ModelStoreError
from storage.models import files
from storage.models.backends import Backend, open_backend, store_errors
from storage.models.history import History, State, listed
from storage.models.states import States, promotion_to
from storage.models.versions import MANIFEST, Version, read_version, write_version
from storage.records import Pointer, Swap, SwapKind
from storage.settings import Settings


class ModelStore:
    """The versions and the champion kept under one name.

    Args:
        backend: Where every store's files are.
        name: What the champions are kept under.
        keep_versions: Predecessors of the champion that are kept for a rollback.

    Every method raises ModelStoreError if the backend cannot be read or written.
    """

    def __init__(self, backend: Backend, name: str, keep_versions: int = 10) -> None:
        self.name = name
        self.folder = backend.local / name
        self._backend = backend
        self._place = f"{backend}/{name}"
        self._states = States(backend, name)
        self._keep_versions = keep_versions

    def stage(self, run_id: str, write: Callable[[Path], None], origin: dict[str, Any]) -> str:
        """Make a candidate: files on disk, and a manifest with their SHA-256.

        Args:
            run_id: Names the candidate, and the version that it may become.
            write: Writes the model's files into the folder that it is given.
            origin: What the manifest says about the model's origin, as JSON values.

        Returns:
            SHA-256 of the candidate's manifest, hexadecimal.
        """
        with store_errors(self._place):
            return write_version(self.candidate(run_id), run_id, write, origin)

    def discard(self, run_id: str) -> None:
        """Delete a candidate, if there is one."""
        shutil.rmtree(self.candidate(run_id), ignore_errors=True)

    def champion(self) -> Pointer | None:
        """Read the pointer; None before the first promotion.

        Raises:
            DamagedStateError: If it is damaged, or missing although there were several swaps.
        """
        with store_errors(self._place):
            return self._states.pointer()

    def read_champion(self) -> tuple[Pointer, Version] | None:
        """Read the champion's version and check every byte; None before the first promotion.

        Raises:
            DamagedModelError: If a file does not match its digest.
        """
        while pointer := self.champion():
            try:
                return pointer, read_version(self.version(pointer.version), pointer.digest)
            except ModelStoreError:
                # Several swaps in a moment may have deleted the version.
                if self.champion() == pointer:
                    raise
        return None

    def history(self) -> History:
        """Read every swap of the pointer, oldest first.

        Raises:
            DamagedStateError: If the pointer or the history is damaged.
        """
        with store_errors(self._place):
            return self._states.read().history

    def kept(self) -> list[str]:
        """List the versions that a rollback may lead to, newest run first."""
        with store_errors(self._place):
            try:
                return sorted(self._states.read().kept, reverse=True)
            except DamagedStateError:
                return self._versions()

    def candidate(self, run_id: str) -> Path:
        """The folder of a candidate."""
        return self.folder / "staging" / run_id

    def version(self, run_id: str) -> Path:
        """The folder of a version."""
        with store_errors(self._place):
            return self._backend.fetch(self._key(run_id))

    def promote(
        self, run_id: str, digest: str, seen: Pointer | None, *, actor: str, reason: str
    ) -> Swap | None:
        """Make the candidate the champion: publish it as a version, then swap the pointer.

        Args:
            run_id: The candidate.
            digest: What ``stage`` returned; every byte of the candidate is checked again.
            seen: The pointer that the candidate was compared with.
            actor: Who or what promotes it.
            reason: Why.

        Returns:
            The swap. None if the champion is no longer ``seen``: nothing has changed, and the
            comparison has to be repeated.
        """
        with store_errors(self._place):
            state = self._states.read()
            if state.champion != seen:
                return None
            if run_id in state.given_up:
                raise ModelStoreError(f"run {run_id} was given up as lost; the champion stays")
            swap = promotion_to(
                Pointer(state.generation + 1, run_id, digest),
                read_version(self.candidate(run_id), digest).manifest,
                predecessor=seen.version if seen else None,
                actor=actor,
                reason=reason,
            )
            swapped = False
            try:
                self._backend.publish(self.candidate(run_id), self._key(run_id))
                swapped = self._swap(state, swap)
            finally:
                if not swapped:
                    self._withdraw(run_id)
        if not swapped:
            return None
        self.discard(run_id)
        return swap

    def give_up(self, run_id: str) -> Swap | None:
        """Make sure that a run is never promoted, and return its promotion if it already was."""
        with store_errors(self._place):
            while True:
                state = self._states.read()
                if promotion := state.history.promotion(run_id):
                    return promotion
                given_up = run_id in state.given_up
                if given_up or self._states.swap(state, state.giving_up(run_id)):
                    self._backend.delete(self._key(run_id))
                    return None

    def rollback(self, to: str | None, *, actor: str, reason: str) -> Swap:
        """Point to an earlier version, once it has loaded and answered its golden batch.

        Args:
            to: The version; None means the champion's predecessor with other weights.
            actor: Who asks for it.
            reason: Why.

        Raises:
            VersionNotFoundError: If there is no champion, no predecessor or no such version.
            InvalidParameterError: If ``to`` is the champion already.
            DamagedModelError: If the version fails; the champion stays.
        """
        with store_errors(self._place):
            while True:
                state = self._states.recover()
                try:
                    target = self._loaded_target(state, to)
                except (ModelStoreError, OSError):
                    if self._states.recover().seen != state.seen:
                        continue  # another swap may have deleted the version
                    raise
                swap = replace(
                    target,
                    generation=state.generation + 1,
                    predecessor=state.history.swaps[-1].version,
                    kind=SwapKind.ROLLBACK,
                    actor=actor,
                    reason=reason,
                    swapped_at=datetime.now(UTC),
                )
                if self._swap(state, swap):
                    return swap

    def _loaded_target(self, state: State, to: str | None) -> Swap:
        # LiteRT and NumPy: nothing else here needs them.
        from storage.models.classifier import load_classifier

        version = state.rollback_target(to, self._place)
        target = state.history.of(version)
        if target is None:
            digest = files.sha256(self.version(version) / MANIFEST)
            target = self._states.unrecorded(Pointer(0, version, digest))
        try:
            load_classifier(self.version(version), target.digest)
        except DamagedModelError as error:
            raise DamagedModelError(
                f"{error}; choose another one with --to RUN ({listed(state.kept)})"
            ) from error
        return target

    def _swap(self, state: State, swap: Swap) -> bool:
        after = state.after(swap, self._keep_versions)
        if not self._states.swap(state, after):
            return False
        with suppress(OSError):
            for version in {*self._versions()} & after.history.versions - {*after.kept}:
                self._backend.delete(self._key(version))
        return True

    def _withdraw(self, run_id: str) -> None:
        """Take a published candidate back, unless an error came after the swap."""
        with suppress(OSError, ModelStoreError):
            if run_id not in self._states.read().history.versions:
                self._backend.withdraw(self._key(run_id), self.candidate(run_id))

    def _versions(self) -> list[str]:
        return self._backend.names(f"{self.name}/versions")[::-1]

    def _key(self, version: str) -> str:
        return f"{self.name}/versions/{version}"


def open_store(settings: Settings, name: str) -> ModelStore:
    """Return the store of a name, wherever the settings keep the models."""
    return ModelStore(open_backend(settings), name, settings.keep_versions)


def store_names(settings: Settings) -> list[str]:
    """List the names that have a champion, or a trace of one."""
    backend = open_backend(settings)
    with store_errors(str(backend)):
        return [name for name in backend.names("") if States(backend, name).exist()]
