"""The history of a store's pointer, and what follows from it. Pure: no file is opened here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from storage.records import Pointer, Swap, SwapKind


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
        return max(scored, key=_share, default=None)

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
            if swap.kind is SwapKind.ROLLBACK and swap.version in {s.version for s in line}:
                while line[-1].version != swap.version:
                    _retire(line.pop(), swap, rolled_back)
                line.pop()
            elif swap.kind is SwapKind.ROLLBACK and line:
                # To a version that had been rolled back itself: it replaces the champion.
                _retire(line.pop(), swap, rolled_back)
            line.append(swap)
            rolled_back.pop(swap.weights_digest or "", None)
        return tuple(reversed(line)), rolled_back


def _retire(gone: Swap, rollback: Swap, rolled_back: dict[str, Swap]) -> None:
    if gone.weights_digest:
        rolled_back[gone.weights_digest] = rollback


def _share(swap: Swap) -> float:
    return (swap.test_correct or 0) / (swap.test_total or 1)
