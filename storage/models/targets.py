"""Where a rollback leads. Pure; no file is opened here."""

from collections.abc import Iterable

from storage.errors import InvalidParameterError, VersionNotFoundError
from storage.models.state import State
from storage.records import Swap


def rollback_target(state: State, to: str | None, place: str) -> Swap | str:
    """Find the swap whose version a rollback puts back.

    Args:
        state: The current one, or the newest one if the pointer is lost.
        to: The version; None means the champion's predecessor with other weights.
        place: The store, for messages.

    Returns:
        The newest swap to that version; the version itself if the history does not know it.

    Raises:
        VersionNotFoundError: If there is no champion, no predecessor or no such version.
        InvalidParameterError: If ``to`` is the champion already.
    """
    if state.champion is None:
        raise VersionNotFoundError(f"expected a champion to roll back from, found none in {place}")
    champion = state.champion.version
    if to is None:
        return state.history.predecessor or _no_predecessor(state, place)
    if to == champion and state.is_sound:
        raise InvalidParameterError(
            f"--to: expected another version than the champion, received {to}"
        )
    if to not in state.kept:
        raise VersionNotFoundError(
            f"--to: expected one of the kept versions ({listed(state.kept)}), received {to!r}"
        )
    return state.history.of(to) or to


def listed(versions: Iterable[str]) -> str:
    """Versions in one line, newest run first."""
    return ", ".join(sorted(versions, reverse=True))


def _no_predecessor(state: State, place: str) -> Swap:
    champion = state.history.swaps[-1].version
    others = listed(v for v in state.kept if v != champion or not state.is_sound)
    hint = f"kept are {others}: choose one with --to RUN"
    if not others:
        hint = f"if it is damaged, move {place} away: the next run starts afresh"
    raise VersionNotFoundError(
        f"expected a predecessor of {champion} with other weights, found none; {hint}"
    )
