"""A state: everything that one swap of the pointer changes, and the files that hold it.

    champion.json                    the pointer: generation, version, digest and state
    states/<generation>-<nonce>.json history, versions that are kept, runs that were given up

Releases without states kept the history in ``history.jsonl``, one line of JSON for each swap.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from storage.models.backends import Stored
from storage.models.history import History
from storage.records import Pointer, Swap, SwapKind

# A run that was given up before these is long dead.
MAX_GIVEN_UP = 100

NO_CHAMPION = {"generation": 0, "version": None, "digest": None}


@dataclass(frozen=True)
class State:
    """What one swap of the pointer changes as a whole.

    Args:
        history: Every swap.
        kept: Versions that a rollback may lead to.
        given_up: Runs that are never promoted, oldest first.
        file: Its name; None for a store without states.
        seen: The pointer that named it; None if there is no pointer.
        is_sound: False if the pointer is lost or damaged, and this is the newest state instead.
    """

    history: History = field(default_factory=History)
    kept: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    file: str | None = None
    seen: Stored | None = None
    is_sound: bool = True

    @property
    def champion(self) -> Pointer | None:
        """What the pointer names; None before the first promotion."""
        return self.history.swaps[-1].pointer if self.history.swaps else None

    @property
    def generation(self) -> int:
        """The number of swaps so far."""
        return self.champion.generation if self.champion else 0

    def after(self, swap: Swap, predecessors: int) -> "State":
        """The state after a swap; versions that the history does not know stay."""
        history = History((*self.history.swaps, swap))
        dropped = history.versions - history.kept(predecessors)
        return replace(self, history=history, kept=tuple({*self.kept, swap.version} - dropped))

    def giving_up(self, run_id: str) -> "State":
        """The state with one more run that is never promoted."""
        return replace(self, given_up=(*self.given_up, run_id)[-MAX_GIVEN_UP:])

    def holds_changes(self, before: "State", after: "State") -> bool:
        """Whether everything that ``after`` added to ``before`` is part of this state."""
        swaps = {*after.history.swaps} - {*before.history.swaps}
        given_up = {*after.given_up} - {*before.given_up}
        return swaps <= {*self.history.swaps} and given_up <= {*self.given_up}


def promotion_to(
    pointer: Pointer, manifest: dict[str, Any], *, predecessor: str | None, actor: str, reason: str
) -> Swap:
    """A promotion, now; what the swap says of the model comes from the version's manifest."""
    return Swap(
        **asdict(pointer),
        predecessor=predecessor,
        kind=SwapKind.PROMOTION,
        actor=actor,
        reason=reason,
        swapped_at=datetime.now(UTC),
        weights_digest=manifest.get("weights_digest"),
        test_correct=manifest.get("test_correct"),
        test_total=manifest.get("test_total"),
        test_digest=manifest.get("test_digest"),
    )


def encode_pointer(state: State, file: str) -> bytes:
    """The pointer to a state that a file holds."""
    champion = asdict(state.champion) if state.champion else NO_CHAMPION
    return f"{json.dumps({**champion, 'state': file}, indent=2)}\n".encode()


def decode_pointer(content: bytes) -> tuple[Pointer | None, str | None]:
    """The champion, and the file of the state; raises ValueError, TypeError or AttributeError."""
    named = json.loads(content)
    file = named.pop("state", None)
    if file is not None and named == NO_CHAMPION:
        return None, str(file)
    pointer = Pointer(**named)
    types = (type(pointer.generation), type(pointer.version), type(pointer.digest))
    if types != (int, str, str) or not isinstance(file, str | None):
        raise TypeError(types)
    return pointer, file


def encode_state(state: State) -> bytes:
    """The content of a state's file."""
    content = {
        "swaps": [asdict(swap) for swap in state.history.swaps],
        "kept": sorted(state.kept),
        "given_up": state.given_up,
    }
    return f"{json.dumps(content, default=datetime.isoformat, indent=1)}\n".encode()


def decode_state(content: bytes, file: str) -> State:
    """The state in a file; raises ValueError, TypeError or KeyError."""
    found = json.loads(content)
    swaps = tuple(map(_swap_of, found["swaps"]))
    return State(History(swaps), tuple(found["kept"]), tuple(found["given_up"]), file)


def decode_history(content: bytes) -> History:
    """The swaps in a ``history.jsonl``; raises ValueError, TypeError or KeyError."""
    return History(tuple(_swap_of(json.loads(line)) for line in content.splitlines()))


def _swap_of(line: dict[str, Any]) -> Swap:
    kind, swapped_at = SwapKind(line["kind"]), datetime.fromisoformat(line["swapped_at"])
    return Swap(**{**line, "kind": kind, "swapped_at": swapped_at})
