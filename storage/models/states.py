"""The pointer and the state that it names, read and swapped.

A state never changes, and no name is used twice, so that one compare-and-swap of the pointer
moves everything. A store without states is read as it is, and carried over by its next swap.
"""

import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from storage.errors import DamagedStateError
from storage.models.backends import Backend, Stored
from storage.models.history import History
from storage.models.state import (
    State,
    decode_history,
    decode_pointer,
    decode_state,
    encode_pointer,
    encode_state,
    promotion_to,
)
from storage.models.versions import read_version
from storage.records import Pointer, Swap

POINTER = "champion.json"
HISTORY = "history.jsonl"


class States:
    """Reads and swaps the state of one store; an error of the backend passes through.

    Args:
        backend: Where the store's files are.
        name: The store's.
    """

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self._name = name

    def pointer(self) -> Pointer | None:
        """Read the pointer; None before the first promotion.

        Raises:
            DamagedStateError: If it is damaged, or missing although there were several swaps.
        """
        found = self._read_pointer()
        return self._decode_pointer(found)[0] if found else None

    def read(self) -> State:
        """Read the current state.

        Raises:
            DamagedStateError: If the pointer or the state is damaged, or the pointer is missing.
            DamagedModelError: If the history has to start with a champion that is damaged.
        """
        while found := self._read_pointer():
            pointer, file = self._decode_pointer(found)
            state = self._read_file(file) if file else self._without_states()
            if state is None:
                if self._backend.read(self._key(POINTER)) != found:
                    continue  # a newer state has replaced the one that was named
                state = self._without_states()
            history = state.history.until(pointer) if pointer else state.history
            if pointer and (not history.swaps or history.swaps[-1].pointer != pointer):
                history = History((*history.swaps, self.unrecorded(pointer)))
            return replace(state, history=history, seen=found)
        return State()

    def recover(self) -> State:
        """Read the current state, or the newest one if the pointer is damaged or missing."""
        try:
            return self.read()
        except DamagedStateError:
            newest = max(self._files(), key=_generation_of, default=None)
            state = (self._read_file(newest) if newest else None) or self._without_states()
            if not state.history.swaps:
                raise
            return replace(state, seen=self._backend.read(self._key(POINTER)), is_sound=False)

    def swap(self, before: State, after: State) -> bool:
        """Move the pointer from one state to the next.

        Returns:
            False if the pointer has moved in the meantime; then nothing has changed.
        """
        file = f"states/{after.generation:08}-{secrets.token_hex(8)}.json"
        self._backend.create(self._key(file), encode_state(after))
        swapped = self._backend.compare_and_swap(
            self._key(POINTER), encode_pointer(after, file), before.seen
        )
        # The answer to a swap that succeeded may be lost, and its repetition refused.
        if not swapped and not self.read().holds_changes(before, after):
            self._delete([file])
            return False
        self._delete_old_files(before, after)
        return True

    def exist(self) -> bool:
        """Whether there is a champion, or a trace of one."""
        try:
            found = self._backend.read(self._key(POINTER))
            if found:
                return self._decode_pointer(found)[0] is not None
        except NotADirectoryError:  # a stray file beside the stores
            return False
        except DamagedStateError:
            return True
        return any(map(_generation_of, self._files())) or HISTORY in self._backend.names(self._name)

    def unrecorded(self, pointer: Pointer) -> Swap:
        """What is known of a swap that is missing in the history."""
        folder = self._backend.fetch(self._key(f"versions/{pointer.version}"))
        manifest = read_version(folder, pointer.digest).manifest
        return promotion_to(
            pointer, manifest, predecessor=None, actor="unknown", reason="not in the history"
        )

    def _read_pointer(self) -> Stored | None:
        found = self._backend.read(self._key(POINTER))
        if found is None and (swaps := self._swaps_so_far()) > 1:
            # The first promotions may have happened between these two reads.
            found = self._backend.read(self._key(POINTER))
            if found is None:
                raise DamagedStateError(
                    f"{self._backend}/{self._key(POINTER)}: expected a pointer after {swaps} swaps,"
                    " found none; `digits rollback --to RUN` writes a new one"
                )
        return found

    def _decode_pointer(self, found: Stored) -> tuple[Pointer | None, str | None]:
        try:
            return decode_pointer(found.content)
        except (ValueError, TypeError, AttributeError) as error:
            raise DamagedStateError(
                f"{self._backend}/{self._key(POINTER)}: expected JSON with generation, version"
                f" and digest, received {found.content[:80]!r}; `digits rollback --to RUN`"
                " writes a new one"
            ) from error

    def _read_file(self, file: str) -> State | None:
        found = self._backend.read(self._key(file))
        try:
            return decode_state(found.content, file) if found else None
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged(file, "JSON with swaps, kept and given_up", error) from error

    def _without_states(self) -> State:
        """The state of a store that has none: the old history, and the versions there are."""
        found = self._backend.read(self._key(HISTORY))
        try:
            history = decode_history(found.content) if found else History()
        except (ValueError, TypeError, KeyError) as error:
            raise self._damaged(HISTORY, "a line of JSON for each swap", error) from error
        versions = {*self._backend.names(self._key("versions"))}
        if history.swaps and history.swaps[0].generation == 1:
            versions &= history.versions  # a crash left the others
        return State(history, tuple(versions))

    def _damaged(self, file: str, expected: str, error: Exception) -> DamagedStateError:
        return DamagedStateError(
            f"{self._backend}/{self._key(file)}: expected {expected}, received something else"
            f" ({error}); move it away, and a new history starts with the champion"
        )

    def _swaps_so_far(self) -> int:
        swaps = self._without_states().history.swaps
        return max([*map(_generation_of, self._files()), *(s.generation for s in swaps)], default=0)

    def _files(self) -> list[str]:
        names = self._backend.names(self._key("states"))
        return [f"states/{name}" for name in names if re.fullmatch(r"\d+-\w+\.json", name)]

    def _delete_old_files(self, before: State, after: State) -> None:
        """Keep the previous generation's state: a copy of the store may be in the making."""
        with suppress(OSError):
            self._delete(f for f in self._files() if _generation_of(f) < after.generation - 1)
            if before.file and before.generation == after.generation:
                self._delete([before.file])
            self._delete([HISTORY])

    def _delete(self, names: Iterable[str]) -> None:
        with suppress(OSError):
            for name in names:
                self._backend.delete(self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._name}/{name}"


def _generation_of(file: str) -> int:
    return int(file.removeprefix("states/").partition("-")[0])
