"""The history of a pointer, against a model of it that keeps everything."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from storage.models.history import History
from storage.records import Swap, SwapKind

# A promotion of some weights, or a rollback: to the predecessor, or to any version by number.
Steps = st.lists(
    st.one_of(
        st.tuples(st.just("promote"), st.integers(0, 5)),
        st.tuples(st.just("back"), st.none()),
        st.tuples(st.just("back to"), st.integers(0, 30)),
    ),
    max_size=25,
)


def swap(kind: SwapKind, number: int, version: str, weights: str, correct: int = 0) -> Swap:
    return Swap(
        generation=number,
        version=version,
        digest="ab",
        predecessor=None,
        kind=kind,
        actor="test",
        reason="",
        swapped_at=datetime(2026, 1, 1, tzinfo=UTC),
        weights_digest=weights,
        test_correct=correct,
        test_total=100,
    )


def played(steps: list[tuple[str, int | None]]) -> list[History]:
    """The history after each step that is possible, as the store would write it."""
    histories = [History(())]
    weights: dict[str, str] = {}
    for what, number in steps:
        history = histories[-1]
        generation = len(history.swaps) + 1
        if what == "promote":
            if f"w{number}" in history.rolled_back:
                continue  # the gate refuses it
            version = f"run-{len(weights)}"
            weights[version] = f"w{number}"
            new = swap(SwapKind.PROMOTION, generation, version, weights[version], number or 0)
        else:
            if what == "back":
                target = history.predecessor.version if history.predecessor else None
            else:
                target = f"run-{number}" if f"run-{number}" in weights else None
            if target is None or target == history.swaps[-1].version:
                continue
            new = swap(SwapKind.ROLLBACK, generation, target, weights[target])
        histories.append(History((*history.swaps, new)))
    return histories


@given(Steps)
def test_the_champion_is_the_head_of_the_line_and_is_kept(steps) -> None:
    for history in played(steps)[1:]:
        champion = history.swaps[-1]
        assert history.line[0] == champion
        assert champion.weights_digest not in history.rolled_back
        versions = [s.version for s in history.line]
        assert len(versions) == len(set(versions)), "nothing stands in the line twice"
        for keep in (1, 3):
            kept = history.kept(keep)
            assert champion.version in kept
            assert history.best is None or history.best.version in kept
            if history.predecessor:
                assert history.predecessor.version in kept
            assert len(kept) <= 2 * (keep + 1) + 1


@given(Steps)
def test_rolling_back_goes_further_back_each_time_and_never_to_what_was_rolled_back(steps) -> None:
    history = played(steps)[-1]
    seen = {history.swaps[-1].weights_digest} if history.swaps else set()
    while history.predecessor:
        target = history.predecessor
        assert target.weights_digest not in seen
        assert target.weights_digest not in history.rolled_back
        seen.add(target.weights_digest)
        number = len(history.swaps) + 1
        back = swap(SwapKind.ROLLBACK, number, target.version, target.weights_digest or "")
        gone = history.swaps[-1].weights_digest
        history = History((*history.swaps, back))
        assert gone in history.rolled_back


@given(Steps)
def test_weights_in_use_again_after_a_rollback_do_not_count_as_rolled_back(steps) -> None:
    for history in played(steps):
        for weights, rollback in history.rolled_back.items():
            assert rollback.kind is SwapKind.ROLLBACK
            later = [s for s in history.swaps if s.generation >= rollback.generation]
            assert all(s.weights_digest != weights for s in later)


def test_the_best_is_the_one_with_the_largest_share_of_those_not_rolled_back() -> None:
    swaps = (
        swap(SwapKind.PROMOTION, 1, "a", "a", 90),
        swap(SwapKind.PROMOTION, 2, "b", "b", 95),
        swap(SwapKind.PROMOTION, 3, "c", "c", 99),
    )
    assert History(swaps).best.version == "c"
    back = History((*swaps, swap(SwapKind.ROLLBACK, 4, "b", "b", 95)))
    assert back.best.version == "b"
    assert History(()).best is None


def test_the_best_is_sought_where_one_asks_and_only_among_those_of_the_champions_test_set() -> None:
    swaps = (
        replace(swap(SwapKind.PROMOTION, 1, "a", "a", 99), test_digest="old"),
        replace(swap(SwapKind.PROMOTION, 2, "b", "b", 95), test_digest="new"),
        replace(swap(SwapKind.PROMOTION, 3, "c", "c", 97), test_digest="new"),
        replace(swap(SwapKind.PROMOTION, 4, "d", "d", 90), test_digest="new"),
    )
    assert History(swaps).best.version == "c"
    assert History(swaps).best_of(["a", "b", "d"]).version == "b"
    assert History(swaps).best_of(["a"]) is None
    assert History(swaps[:1]).best.version == "a"


def test_the_last_n_versions_and_their_predecessors_are_kept() -> None:
    swaps = [swap(SwapKind.PROMOTION, n, f"v{n}", f"w{n}", 50) for n in range(1, 8)]
    swaps.append(swap(SwapKind.ROLLBACK, 8, "v3", "w3", 50))
    kept = History(tuple(swaps)).kept(2)
    assert {"v3", "v2", "v1"} <= kept, "where further rollbacks lead"
    assert {"v7", "v6"} <= kept, "what was in use until now"
    assert "v4" not in kept


def test_a_version_is_found_by_its_newest_swap_and_by_its_promotion() -> None:
    swaps = (
        swap(SwapKind.PROMOTION, 1, "b", "wb"),
        swap(SwapKind.PROMOTION, 2, "c", "wc"),
        swap(SwapKind.PROMOTION, 3, "a", "wa"),
        swap(SwapKind.ROLLBACK, 4, "c", "wc"),
    )
    history = History(swaps)
    assert [history.of(version) for version in "abcd"] == [swaps[2], swaps[0], swaps[3], None]
    promotions = [history.promotion(version) for version in "abcd"]
    assert promotions == [swaps[2], swaps[0], swaps[1], None]
    assert history.line == (swaps[3], swaps[0])
    assert history.until(swaps[1].pointer).swaps == swaps[:2]


def test_a_rollback_to_a_rolled_back_version_takes_the_champions_place() -> None:
    swaps = (
        swap(SwapKind.PROMOTION, 1, "a", "wa"),
        swap(SwapKind.PROMOTION, 2, "b", "wb"),
        swap(SwapKind.ROLLBACK, 3, "a", "wa"),
        swap(SwapKind.ROLLBACK, 4, "b", "wb"),
    )
    assert History(swaps[:2]).predecessor == swaps[0]
    assert History(swaps[:3]).rolled_back == {"wb": swaps[2]}
    history = History(swaps)
    assert history.line == (swaps[3],)
    assert history.rolled_back == {"wa": swaps[3]}
    assert history.predecessor is None


def test_no_more_versions_are_kept_than_asked_for() -> None:
    swaps = tuple(swap(SwapKind.PROMOTION, n, f"v{n}", f"w{n}", n) for n in range(1, 8))
    assert History(swaps).kept(2) == {"v7", "v6", "v5"}


def test_the_best_has_the_largest_share_and_one_without_counts_has_none() -> None:
    high, low = (swap(SwapKind.PROMOTION, n, f"v{n}", f"w{n}", 90 + n) for n in (1, 2))
    low = replace(low, test_total=200)
    assert History((low, high)).best == high
    unknown = replace(low, version="v3", test_correct=None, test_total=None)
    poor = replace(high, test_correct=1, test_total=1000)
    assert History((unknown, poor)).best == poor
