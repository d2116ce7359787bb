"""The gate's rule about transformed test images."""

import math
from collections.abc import Callable

import pytest

from storage.recipe import Recipe
from storage.records import Evaluation, Pointer, Rule
from tasks.gate import gate
from tasks.scoring.values import Counts, Measurements, NotScored, Pairs, Score

EVALUATION = Evaluation(0.1, tuple(tuple(9 * (a == b) for b in range(10)) for a in range(10)))
REQUIRED = "at most 1 point below the champion where it has 97% right"


def scored(loss: float = 0.1, **correct: int) -> Score:
    """A score with so many of 2,000 right of each transformation; without any it has none."""
    counts = {name: Counts(count, 2000) for name, count in correct.items()}
    return Score(Evaluation(loss, EVALUATION.confusion), 0.0, robustness=counts or None)


@pytest.fixture
def ruled(new_recipe: Callable[..., Recipe]) -> Callable[..., list[Rule]]:
    """The rule's result, if there is one."""

    def rule(challenger: Score, champion: Score | NotScored | None, **recipe: bool) -> list[Rule]:
        found = Measurements(
            "cd" * 32,
            EVALUATION,
            challenger,
            champion=champion,
            compared_with=None if champion is None else Pointer(1, "older", "ab" * 32),
            pairs=Pairs(0, 0),
        )
        made = new_recipe(**{"robust": True, **recipe})
        return [rule for rule in gate.fn(found, made).rules if rule.name == "robustness"]

    return rule


def test_the_rule_is_off_unless_the_recipe_asks_for_it(ruled) -> None:
    better, worse = scored(moved=1940), scored(moved=100)
    assert ruled(worse, better, robust=False) == []
    (asked,) = ruled(worse, better)
    assert not asked.passed


@pytest.mark.parametrize(("moved", "passed"), [(1920, True), (1919, False), (1990, True)])
def test_a_point_is_allowed_and_one_image_more_is_not(ruled, moved: int, passed: bool) -> None:
    (rule,) = ruled(scored(moved=moved, thin=1700), scored(moved=1940, thin=1700))
    assert (rule.required, rule.passed) == (REQUIRED, passed)


def test_it_says_which_transformations_fall_by_how_much_and_no_others(ruled) -> None:
    champion = scored(moved=1950, thin=1950, noise=1960, faint=1950)
    (rule,) = ruled(scored(moved=1990, thin=1929, noise=1000, faint=1930), champion)
    assert rule.measured == (
        "thin falls by 1.05 points (1,929 of 2,000 correct vs. 1,950);"
        " noise falls by 48.00 points (1,000 of 2,000 correct vs. 1,960)"
    )
    (equal,) = ruled(champion, champion)
    assert equal == Rule("robustness", REQUIRED, "no transformation fell by more", passed=True)


@pytest.mark.parametrize(("champions", "passed"), [(1940, False), (1939, True)])
def test_what_the_champion_cannot_do_either_does_not_count(
    ruled, champions: int, passed: bool
) -> None:
    (rule,) = ruled(scored(moved=600, thin=1950), scored(moved=champions, thin=1950))
    assert rule.passed is passed


def test_it_passes_without_a_champion(ruled) -> None:
    (rule,) = ruled(scored(moved=3), None)
    assert rule == Rule("robustness", REQUIRED, "no champion yet", passed=True)


@pytest.mark.parametrize(
    ("challenger", "champion", "measured"),
    [
        (scored(), scored(moved=1900), "the transformed test images were not scored"),
        (scored(), None, "the transformed test images were not scored"),
        (scored(moved=1900), scored(), "the champion was not scored"),
        (scored(moved=1900), scored(math.nan, moved=1900), "the champion was not scored"),
        (scored(moved=1900), NotScored("it is damaged"), "the champion was not scored"),
    ],
)
def test_what_was_not_scored_never_passes(ruled, challenger, champion, measured: str) -> None:
    (rule,) = ruled(challenger, champion)
    assert rule == Rule("robustness", REQUIRED, measured, passed=False)
