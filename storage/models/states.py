"""The pointer and the state that it names, read and swapped.

A state never changes, and no name is used twice, so that one compare-and-swap of the pointer
moves everything. Releases without states kept the history in ``history.jsonl``, one line of JSON
for each swap; such a store is read as it is, and carried over by its next swap.
"""

import json
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, TypeVar, get_type_hints

from storage.errors import DamagedStateError
from storage.models.backends import Backend, Stored
from storage.models.history import History, State
from storage.models.versions import read_version
from storage.records import Pointer, Swap, SwapKind

POINTER = "champion.json"
HISTORY = "history.jsonl"
NO_CHAMPION = {"generation": 0, "version": None, "digest": None}
POINTER_TYPES, SWAP_TYPES = get_type_hints(Pointer), get_type_hints(Swap)

T = TypeVar("T")


class States:
    """Reads and swaps the state of one store; an error of the backend passes through.

    Reading raises DamagedStateError if the pointer or the state is damaged, or the pointer is
    missing although there were several swaps.
    """

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self._name = name

    def pointer(self) -> Pointer | None:
        """Read the pointer; None before the first promotion."""
        found = self._read_pointer()
        return found[1] if found else None

    def read(self) -> State:
        """Read the current state.

        Raises:
            DamagedModelError: If the history has to start with a champion that is damaged.
        """
        while found := self._read_pointer():
            seen, pointer, file = found
            state = self._read_file(file)
            if state is None:
                if file and self._backend.read(self._key(POINTER)) != seen:
                    continue  # a newer state has replaced the one that was named
                state = self._without_states()
            history = state.history.until(pointer) if pointer else state.history
            if pointer and (not history.swaps or history.swaps[-1].pointer != pointer):
                history = History((*history.swaps, self.unrecorded(pointer)))
            return replace(state, history=history, seen=seen)
        return State()

    def recover(self) -> State:
        """Read the current state, or the newest one if the pointer is damaged or missing."""
        try:
            return self.read()
        except DamagedStateError:
            newest = max(self._files(), key=_generation_of, default=None)
            state = self._read_file(newest) or self._without_states()
            if not state.history.swaps:
                raise
            return replace(state, seen=self._backend.read(self._key(POINTER)), is_sound=False)

    def swap(self, before: State, after: State) -> bool:
        """Move the pointer from one state to the next.

        Returns:
            False if the pointer has moved in the meantime; then nothing has changed.
        """
        file = f"states/{after.generation:08}-{secrets.token_hex(8)}.json"
        self._backend.create(self._key(file), _encode_state(after))
        swapped = self._backend.compare_and_swap(
            self._key(POINTER), _encode_pointer(after, file), before.seen
        )
        # The answer to a swap that succeeded may be lost, and its repetition refused.
        if not swapped and not after.entries - before.entries <= self.read().entries:
            self._delete(file)
            return False
        # The previous generation's state stays: a copy of the store may be in the making.
        with suppress(OSError):
            self._delete(*(f for f in self._files() if _generation_of(f) < after.generation - 1))
        if before.file and before.generation == after.generation:
            self._delete(before.file)
        self._delete(HISTORY)
        return True

    def exist(self) -> bool:
        """Whether there is a champion, or a trace of one."""
        try:
            found = self._read_pointer()
        except NotADirectoryError:  # a stray file beside the stores
            return False
        except DamagedStateError:
            return True
        return found[1] is not None if found else self._swaps_so_far() > 0

    def unrecorded(self, pointer: Pointer) -> Swap:
        """What is known of a swap that is missing in the history."""
        folder = self._backend.fetch(self._key(f"versions/{pointer.version}"))
        manifest = read_version(folder, pointer.digest).manifest
        return promotion_to(
            pointer, manifest, predecessor=None, actor="unknown", reason="not in the history"
        )

    def _read_pointer(self) -> tuple[Stored, Pointer | None, str | None] | None:
        """Read the pointer: as stored, and the champion and the state's file that it names."""
        rewrite = "`digits rollback --to RUN` writes a new one"
        found = self._backend.read(self._key(POINTER))
        if found is None and (swaps := self._swaps_so_far()) > 1:
            # The first promotions may have happened between these two reads.
            found = self._backend.read(self._key(POINTER))
            if found is None:
                raise DamagedStateError(
                    f"{self._backend}/{self._key(POINTER)}: expected a pointer after {swaps} swaps,"
                    f" found none; {rewrite}"
                )
        if found is None:
            return None
        expected = "JSON with generation, version and digest"
        return found, *self._decode(POINTER, found, _decode_pointer, expected, rewrite)

    def _read_file(self, file: str | None) -> State | None:
        found = self._backend.read(self._key(file)) if file else None
        if not (file and found):
            return None
        state = self._decode(file, found, _decode_state, "JSON with swaps, kept and given_up")
        return replace(state, file=file)

    def _without_states(self) -> State:
        """The state of a store that has none: the old history, and the versions there are."""
        found = self._backend.read(self._key(HISTORY))
        history = History()
        if found:
            history = self._decode(HISTORY, found, _decode_history, "a line of JSON for each swap")
        versions = {*self._backend.names(self._key("versions"))}
        if history.swaps and history.swaps[0].generation == 1:
            versions &= history.versions  # a crash left the others
        return State(history, tuple(versions))

    def _decode(
        self,
        file: str,
        found: Stored,
        decode: Callable[[bytes], T],
        expected: str,
        remedy: str = "move it away, and a new history starts with the champion",
    ) -> T:
        try:
            return decode(found.content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DamagedStateError(
                f"{self._backend}/{self._key(file)}: expected {expected}, received"
                f" {found.content[:80]!r} ({error}); {remedy}"
            ) from error

    def _swaps_so_far(self) -> int:
        return max([*map(_generation_of, self._files()), self._without_states().generation])

    def _files(self) -> list[str]:
        names = self._backend.names(self._key("states"))
        return [f"states/{name}" for name in names if re.fullmatch(r"\d+-\w+\.json", name)]

    def _delete(self, *files: str) -> None:
        with suppress(OSError):
            for file in files:
                self._backend.delete(self._key(file))

    def _key(self, name: str) -> str:
        return f"{self._name}/{name}"


def promotion_to(
    pointer: Pointer, manifest: dict[str, Any], *, predecessor: str | None, actor: str, reason: str
) -> Swap:
    """A promotion, now; what the swap says of the model comes from the version's manifest."""
    measured: dict[str, Any] = {
        fact: manifest.get(fact)
        for fact in ("weights_digest", "test_correct", "test_total", "test_digest")
    }
    return Swap(
        **asdict(pointer),
        predecessor=predecessor,
        kind=SwapKind.PROMOTION,
        actor=actor,
        reason=reason,
        swapped_at=datetime.now(UTC),
        **measured,
    )


def _generation_of(file: str) -> int:
    return int(file.removeprefix("states/").partition("-")[0])


def _encode_pointer(state: State, file: str) -> bytes:
    champion = asdict(state.champion) if state.champion else NO_CHAMPION
    return f"{json.dumps({**champion, 'state': file}, indent=2)}\n".encode()


def _decode_pointer(content: bytes) -> tuple[Pointer | None, str | None]:
    named = json.loads(content)
    file = named.pop("state", None)
    if file is not None and named == NO_CHAMPION:
        return None, str(file)
    pointer = Pointer(**named)
    _check_types(named | {"state": file}, POINTER_TYPES | {"state": str | None})
    return pointer, file


def _encode_state(state: State) -> bytes:
    content = {
        "swaps": [asdict(swap) for swap in state.history.swaps],
        "kept": sorted(state.kept),
        "given_up": state.given_up,
    }
    return f"{json.dumps(content, default=datetime.isoformat, indent=1)}\n".encode()


def _decode_state(content: bytes) -> State:
    found = json.loads(content)
    swaps = tuple(map(_decode_swap, found["swaps"]))
    kept, given_up = tuple(found["kept"]), tuple(found["given_up"])
    for name in (*kept, *given_up):
        _check_types({"kept and given_up": name}, {"kept and given_up": str})
    return State(History(swaps), kept, given_up)


def _decode_history(content: bytes) -> History:
    return History(tuple(_decode_swap(json.loads(line)) for line in content.splitlines()))


def _decode_swap(line: dict[str, Any]) -> Swap:
    kind, swapped_at = SwapKind(line["kind"]), datetime.fromisoformat(line["swapped_at"])
    if swapped_at.tzinfo is None:
        raise ValueError("swapped_at has no time zone")
    values = {**line, "kind": kind, "swapped_at": swapped_at}
    swap = Swap(**values)
    _check_types(values, SWAP_TYPES)
    return swap


def _check_types(values: dict[str, Any], types: dict[str, Any]) -> None:
    for name, value in values.items():
        if not isinstance(value, types[name]) or isinstance(value, bool):
            raise TypeError(f"{name} cannot be {value!r}")
