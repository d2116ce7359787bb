"""What one swap of the pointer changes: the history, and the state around it.

Pure: no file is opened here.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from storage.errors import InvalidParameterError, VersionNotFoundError
from storage.models.backends import Stored
from storage.records import Pointer, Swap, SwapKind

# A run that was given up before these is long dead.
MAX_GIVEN_UP = 100


@dataclass(frozen=True)
class History:
    """Every swap of the pointer.

    Args:
        swaps: Oldest first; the generation rises by one each time.
    """

    swaps: tuple[Swap, ...] = ()

    @property
    def versions(self) -> set[str]:
        """Every version that was ever the champion."""
        return {swap.version for swap in self.swaps}

    def of(self, version: str) -> Swap | None:
        """The newest swap that pointed to a version; None if none ever did."""
        return next((swap for swap in reversed(self.swaps) if swap.version == version), None)

    def until(self, pointer: Pointer) -> "History":
        """The history up to the swap that moved the pointer there."""
        return History(tuple(s for s in self.swaps if s.generation <= pointer.generation))

    def promotion(self, version: str) -> Swap | None:
        """The swap that promoted a run's model; None if it never was promoted."""
        promotions = (s for s in self.swaps if s.kind is SwapKind.PROMOTION)
        return next((swap for swap in promotions if swap.version == version), None)

    @property
    def line(self) -> tuple[Swap, ...]:
        """The champion, its predecessor, that one's predecessor...: where rollbacks lead."""
        return self._replayed[0]

    @property
    def predecessor(self) -> Swap | None:
        """Where a rollback leads: the newest earlier one with other weights, never rolled back."""
        return self._distinct[1] if len(self._distinct) > 1 else None

    @property
    def rolled_back(self) -> Mapping[str, Swap]:
        """By weights digest: the rollback that took these weights out of use.

        Rolling back *to* such a version takes its weights off this list.
        """
        return self._replayed[1]

    @property
    def best(self) -> Swap | None:
        """The best champion so far; see ``best_of``."""
        return self.best_of(self.versions)

    def best_of(self, versions: Collection[str]) -> Swap | None:
        """Of some versions, the one with the largest share of correct test images.

        Versions that were rolled back do not count, nor do those measured on another test set
        than the champion: shares of two test sets cannot be compared.
        """
        scored = [
            swap
            for swap in self.swaps
            if swap.version in versions
            and swap.weights_digest not in self.rolled_back
            and swap.test_digest == self.swaps[-1].test_digest
        ]
        return max(scored, key=lambda s: (s.test_correct or 0) / (s.test_total or 1), default=None)

    def kept(self, predecessors: int) -> set[str]:
        """Versions that must not be deleted.

        The champion and its predecessors with other weights, the best one, and the versions
        that were in use most recently: they let a rollback be undone.
        """
        recent = dict.fromkeys(swap.version for swap in reversed(self.swaps))
        kept = {*list(recent)[: predecessors + 1]}
        kept |= {swap.version for swap in self._distinct[: predecessors + 1]}
        return kept | ({self.best.version} if self.best else set())

    @cached_property
    def _distinct(self) -> list[Swap]:
        """The line without rolled-back weights, and with each set of weights once."""
        newest: dict[str, Swap] = {}
        for swap in self.line:
            if swap.weights_digest not in self.rolled_back:
                newest.setdefault(swap.weights_digest or swap.version, swap)
        return list(newest.values())

    @cached_property
    def _replayed(self) -> tuple[tuple[Swap, ...], dict[str, Swap]]:
        line: list[Swap] = []  # oldest first
        rolled_back: dict[str, Swap] = {}
        for swap in self.swaps:
            if swap.kind is SwapKind.ROLLBACK:
                versions = [known.version for known in line]
                # A version that had been rolled back itself replaces the champion.
                end = versions.index(swap.version) if swap.version in versions else -1
                rolled_back |= {s.weights_digest: swap for s in line[end:] if s.weights_digest}
                del line[end:]
            line.append(swap)
            rolled_back.pop(swap.weights_digest or "", None)
        return tuple(reversed(line)), rolled_back


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

    @property
    def entries(self) -> set[Swap | str]:
        """Every swap, and every run that was given up."""
        return {*self.history.swaps, *self.given_up}

    def after(self, swap: Swap, predecessors: int) -> "State":
        """The state after a swap; versions that the history does not know stay."""
        history = History((*self.history.swaps, swap))
        dropped = history.versions - history.kept(predecessors)
        return replace(self, history=history, kept=tuple({*self.kept, swap.version} - dropped))

    def giving_up(self, run_id: str) -> "State":
        """The state with one more run that is never promoted."""
        return replace(self, given_up=(*self.given_up, run_id)[-MAX_GIVEN_UP:])

    def rollback_target(self, to: str | None, place: str) -> str:
        """Find the version that a rollback puts back: ``to``, or the champion's predecessor.

        Raises:
            VersionNotFoundError: If there is no champion, no predecessor or no such version.
            InvalidParameterError: If ``to`` is the champion already.
        """
        if self.champion is None:
            raise VersionNotFoundError(
                f"expected a champion to roll back from, found none in {place}"
            )
        in_use = self.champion.version if self.is_sound else None
        if to is None:
            if self.history.predecessor:
                return self.history.predecessor.version
            others = listed({*self.kept} - {in_use})
            hint = f"kept are {others}: choose one with --to RUN"
            if not others:
                hint = f"if it is damaged, move {place} away: the next run starts afresh"
            raise VersionNotFoundError(
                f"expected a predecessor of {self.champion.version} with other weights, found none;"
                f" {hint}"
            )
        if to == in_use:
            raise InvalidParameterError(
                f"--to: expected another version than the champion, received {to}"
            )
        if to not in self.kept:
            raise VersionNotFoundError(
                f"--to: expected one of the kept versions ({listed(self.kept)}), received {to!r}"
            )
        return to


def listed(versions: Iterable[str]) -> str:
    """Versions in one line, newest run first."""
    return ", ".join(sorted(versions, reverse=True))
