"""The gate's rule about the champion, and what it does where something was not measured."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.models.history import History
from storage.recipe import Recipe
from storage.records import Decision, Evaluation, Pointer, Swap, SwapKind
from tasks.gate import gate
from tasks.scoring.values import Measurements, NotScored, Pairs, Score

SEEN = Pointer(4, "20261101-020000-abcdef", "ab" * 32)
TOTAL = 1000
RULES = ("not-worse", "better", "non-inferior")
FLOATS = st.sampled_from([0.1, 1e-5, math.nan, math.inf, -math.inf])


def score(correct: int, loss: float = 0.1, golden: float = 1e-7, total: int = TOTAL) -> Score:
    """A stored model with so many of ``total`` images right, the digits evenly."""
    rows = [[0] * 10 for _ in range(10)]
    for image in range(total):
        digit = image % 10
        rows[digit][digit if image < correct else (digit + 1) % 10] += 1
    return Score(Evaluation(loss, tuple(map(tuple, rows))), golden)


def compared(ours: int, theirs: int, alone: int | None = None, **others: object) -> Measurements:
    """A challenger beside a champion; ``alone`` images only the challenger gets right."""
    alone = max(ours - theirs, 0) if alone is None else alone
    challenger = score(ours)
    values = {
        "test_digest": "cd" * 32,
        "trained": challenger.evaluation,
        "challenger": challenger,
        "champion": score(theirs),
        "compared_with": SEEN,
        "pairs": Pairs(alone, alone - (ours - theirs)),
    }
    return Measurements(**{**values, **others})


def failed(decision: Decision) -> list[str]:
    return [rule.name for rule in decision.rules if not rule.passed]


def said(decision: Decision) -> tuple[str, str]:
    (rule,) = [rule for rule in decision.rules if rule.name == "champion"]
    return rule.required, rule.measured


@given(ours=st.integers(800, TOTAL), theirs=st.integers(0, TOTAL))
def test_not_worse_takes_as_many_as_the_champion_has_and_not_one_less(
    new_recipe: Callable[..., Recipe], ours: int, theirs: int
) -> None:
    decision = gate.fn(compared(ours, theirs), new_recipe())
    assert failed(decision) == ([] if ours >= theirs else ["champion"])


def test_not_worse_names_the_champion_both_counts_and_who_was_right_alone(
    new_recipe: Callable[..., Recipe],
) -> None:
    required, measured = said(gate.fn(compared(951, 950, alone=9), new_recipe()))
    assert required == f"at least 950 correct (not worse than {SEEN.version})"
    assert measured == (
        "951 correct vs. 950 for the champion (only challenger right: 9, only champion right: 8)"
    )


@given(ours_alone=st.integers(0, 120), theirs_alone=st.integers(0, 120))
def test_better_is_one_sided_exact_mcnemar_below_five_percent(
    new_recipe: Callable[..., Recipe], ours_alone: int, theirs_alone: int
) -> None:
    pairs = ours_alone + theirs_alone
    # A fair coin for each pair: how likely so many heads or more.
    tail = Fraction(sum(math.comb(pairs, k) for k in range(ours_alone, pairs + 1)), 2**pairs)
    both = TOTAL - 150  # of the rest each is right about its own
    found = compared(both + ours_alone, both + theirs_alone, alone=ours_alone)
    decision = gate.fn(found, new_recipe(champion_rule="better"))
    assert failed(decision) == ([] if tail < Fraction(5, 100) else ["champion"])
    assert said(decision)[1].endswith(f"p = {float(tail):.3g}")


@pytest.mark.parametrize(
    ("alone", "against", "accepted"), [(5, 0, True), (4, 0, False), (10, 3, True), (9, 3, False)]
)
def test_better_asks_for_more_than_chance(
    new_recipe: Callable[..., Recipe], alone: int, against: int, accepted: bool
) -> None:
    # By hand: 1/32 = 0.031, 1/16 = 0.063, 378/8192 = 0.046, 299/4096 = 0.073.
    found = compared(900 + alone, 900 + against, alone=alone)
    assert gate.fn(found, new_recipe(champion_rule="better")).accepted is accepted


@given(
    ours=st.integers(850, TOTAL),
    theirs=st.integers(850, TOTAL),
    best=st.one_of(st.none(), st.integers(850, TOTAL)),
    margin=st.integers(0, 100),
)
def test_non_inferior_is_measured_from_the_better_of_the_champion_and_the_best_ever(
    new_recipe: Callable[..., Recipe], ours: int, theirs: int, best: int | None, margin: int
) -> None:
    found = compared(ours, theirs, best=None if best is None else score(best))
    decision = gate.fn(found, new_recipe(champion_rule="non-inferior", margin=margin))
    anchor = max(theirs, best or 0)
    assert failed(decision) == ([] if ours >= anchor - margin else ["champion"])
    assert said(decision)[0] == (
        f"at least {anchor - margin:,} correct (not inferior to {SEEN.version}:"
        f" at most {margin} below the best champion so far)"
    )


def test_in_ten_nights_small_losses_do_not_add_up(new_recipe: Callable[..., Recipe]) -> None:
    recipe = new_recipe(champion_rule="non-inferior", margin=5)
    swaps: list[Swap] = []
    by_version: dict[str, int] = {}
    for night in range(10):
        ours = 980 - 4 * night  # each night within the margin of the one before
        history = History(tuple(swaps))
        if swaps:
            champion, best = swaps[-1], history.best
            found = compared(
                ours,
                by_version[champion.version],
                best=score(by_version[best.version]),
                compared_with=champion.pointer,
            )
        else:
            found = Measurements("cd" * 32, score(ours).evaluation, score(ours))
        if gate.fn(found, recipe).accepted:
            version = f"night-{night}"
            by_version[version] = ours
            swaps.append(
                Swap(
                    generation=len(swaps) + 1,
                    version=version,
                    digest="ab" * 32,
                    predecessor=swaps[-1].version if swaps else None,
                    kind=SwapKind.PROMOTION,
                    actor="retrain",
                    reason="",
                    swapped_at=datetime.now(UTC),
                    weights_digest=version,
                    test_correct=ours,
                    test_total=TOTAL,
                )
            )
    # 976 is five or fewer behind 980, 972 is not, though it is four behind the champion.
    assert [by_version[swap.version] for swap in swaps] == [980, 976]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "champion",
    [
        NotScored("model.tflite: expected the SHA-256 ab"),
        score(900, loss=math.nan),
        score(900, loss=math.inf),
    ],
)
def test_a_champion_that_cannot_be_scored_rejects_and_the_reason_names_the_way_out(
    new_recipe: Callable[..., Recipe], rule: str, champion: Score | NotScored
) -> None:
    found = compared(1000, 900, champion=champion)
    decision = gate.fn(found, new_recipe(champion_rule=rule))
    assert failed(decision) == ["champion"]
    assert "`digits rollback`" in decision.reason
    why = getattr(champion, "reason", "its test loss is not finite")
    assert f"cannot be scored: {why}" in decision.reason


def test_an_unknown_champion_rejects_too(
    new_recipe: Callable[..., Recipe],
) -> None:
    found = compared(
        1000, 900, champion=NotScored("champion.json: expected JSON"), compared_with=None
    )
    decision = gate.fn(found, new_recipe())
    assert failed(decision) == ["champion"]
    assert said(decision)[0] == "not worse than the champion"


@pytest.mark.parametrize(
    "best", [NotScored("manifest.json: expected a file"), score(990, loss=math.inf)]
)
def test_a_best_ever_that_cannot_be_scored_rejects_where_it_is_the_anchor(
    new_recipe: Callable[..., Recipe], best: Score | NotScored
) -> None:
    found = compared(1000, 900, best=best)
    decision = gate.fn(found, new_recipe(champion_rule="non-inferior", margin=3))
    assert failed(decision) == ["champion"]
    assert "cannot be scored" in decision.reason
    # Not to be taken for the champion: to roll that one back would help nobody.
    assert "the best" in decision.reason


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("missing", ["champion", "pairs"])
def test_a_comparison_of_which_a_part_is_missing_rejects(
    new_recipe: Callable[..., Recipe], rule: str, missing: str
) -> None:
    whole = compared(1000, 900)
    recipe = new_recipe(champion_rule=rule)
    assert gate.fn(whole, recipe).accepted
    assert failed(gate.fn(replace(whole, **{missing: None}), recipe)) == ["champion"]


def test_a_champion_with_a_different_golden_batch_rejects(
    new_recipe: Callable[..., Recipe],
) -> None:
    for golden in (math.nan, 0.5):
        found = compared(1000, 900, champion=score(900, golden=golden))
        assert failed(gate.fn(found, new_recipe())) == ["champion"]


SCORES = st.one_of(
    st.just(NotScored("it is damaged")),
    st.builds(
        score,
        correct=st.integers(0, 40),
        loss=FLOATS,
        golden=FLOATS,
        total=st.sampled_from([0, 9, 40]),
    ),
)


@given(data=st.data())
def test_every_rule_has_words_and_only_complete_measurements_are_accepted(
    new_recipe: Callable[..., Recipe], data: st.DataObject
) -> None:
    pairs = st.one_of(st.none(), st.builds(Pairs, st.integers(0, 40), st.integers(0, 40)))
    found = Measurements(
        test_digest="cd" * 32,
        trained=data.draw(SCORES.filter(lambda one: isinstance(one, Score))).evaluation,
        challenger=data.draw(SCORES),
        champion=data.draw(st.one_of(st.none(), SCORES)),
        best=data.draw(st.one_of(st.none(), SCORES)),
        compared_with=data.draw(st.sampled_from([None, SEEN])),
        pairs=data.draw(pairs),
    )
    recipe = new_recipe(
        champion_rule=data.draw(st.sampled_from(RULES)),
        min_accuracy=data.draw(st.sampled_from([0.0, 0.5])),
        min_recall=0.0,
        confident=data.draw(st.booleans()),
    )
    decision = gate.fn(found, recipe)
    for rule in decision.rules:
        words = [getattr(rule, field.name) for field in fields(rule)[:3]]
        assert all(isinstance(text, str) and text and "\n" not in text for text in words)
        assert isinstance(rule.passed, bool)
    if decision.accepted:
        assert isinstance(found.challenger, Score)
        assert not isinstance(found.champion, NotScored)
        for one in (found.challenger, found.champion):
            if one is not None:
                assert math.isfinite(one.evaluation.loss)
                assert one.evaluation.total
