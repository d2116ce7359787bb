"""Gate: decide from the measurements, with a reason for every rule. It fails closed."""

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.models.classifier import GOLDEN_TOLERANCE
from storage.recipe import Recipe
from storage.records import Decision, Rule
from tasks.scoring.reference import has_fallen, listed, misread
from tasks.scoring.statistics import interval, mcnemar
from tasks.scoring.values import Measurements, NotScored, Pairs, Score, usable

SIGNIFICANCE = 0.05
# What the champion can do must not be lost: of the transformations that it has this share of right,
# the largest allowed fall, in percentage points. Below it, two seeds differ by more.
ABLE, POINTS = 0.97, 1
# With fewer field images a single one would decide too much.
MIN_FIELD = 50
PHRASES = {
    "not-worse": "not worse than",
    "better": "significantly better than",
    "non-inferior": "not inferior to",
}
WAY_OUT = "`digits rollback` returns to an earlier version"
OTHER_RULE = "choose another champion rule"


@task(cache_policy=NO_CACHE)
def gate(measurements: Measurements, recipe: Recipe) -> Decision:
    """Decide whether the challenger may become the champion; if in doubt, it may not."""
    challenger = measurements.challenger
    if isinstance(challenger, NotScored):
        unscored = Rule("scored", "a stored model that answers", challenger.reason, passed=False)
        return Decision((unscored,))
    rules = (rule(challenger, measurements, recipe) for rule in RULES)
    return Decision(tuple(rule for rule in rules if rule))


def _finite(challenger: Score, measurements: Measurements, _: Recipe) -> Rule:
    numbers = {
        "test loss": challenger.evaluation.loss,
        "test loss in Keras": measurements.trained.loss,
        "golden difference": challenger.golden_difference,
    }
    wrong = [f"{name} {value}" for name, value in numbers.items() if not math.isfinite(value)]
    measured = ", ".join(wrong) or f"test loss {challenger.evaluation.loss:.4f}"
    return Rule("finite", "finite loss and probabilities", measured, passed=not wrong)


def _reference(_: Score, measurements: Measurements, recipe: Recipe) -> Rule | None:
    """No rule without a champion that can be scored and has a record."""
    champion = usable(measurements.champion)
    if isinstance(champion, NotScored) or champion.record is None:
        return None
    now, record = champion.evaluation, champion.record
    same = "the same" if record.test_digest == measurements.test_digest else "another"
    required = f"the champion as when promoted: {record.correct:,} of {record.total:,} correct"
    measured = f"the champion has {now.correct:,} of {now.total:,} correct on {same} test set"
    # Earlier releases recorded no digits: the training images must agree with the test images.
    before = record.confusion or now.confusion
    found = {"test": misread(now.confusion, before)}
    if champion.on_training:
        found["training"] = misread(champion.on_training, before)
    changed = has_fallen(now, record, measurements.test_digest) or any(found.values())
    labels = [listed(part, some) for part, some in found.items() if some]
    measured = "; ".join([measured, *labels])
    if not changed:
        return Rule("reference", required, measured, passed=True)
    if recipe.accept_change:
        return Rule("reference", required, f"{measured}; accepted as meant", passed=True)
    required += "; correct the images or labels, or add --accept-change if the change is meant"
    return Rule("reference", required, measured, passed=False)


def _accuracy(challenger: Score, _: Measurements, recipe: Recipe) -> Rule:
    correct, total = challenger.evaluation.correct, challenger.evaluation.total
    minimum = recipe.min_accuracy
    # As decimals: with floats, 0.07 of 100 images are 7.000000000000001.
    needed = int((Decimal(str(minimum)) * total).to_integral_value(ROUND_CEILING))
    required = f"at least {minimum:g} ({needed:,} correct)"
    measured = f"{correct:,} of {total:,} correct"
    passed = total > 0 and correct >= needed
    if total:
        low, high = interval(correct, total)
        measured += f" (95% interval {low:.4f} to {high:.4f})"
        if recipe.confident:
            required += ", and so must the interval's lower bound"
            passed = passed and low >= minimum
    return Rule("accuracy", required, measured, passed)


def _recall(challenger: Score, _: Measurements, recipe: Recipe) -> Rule:
    evaluation, minimum = challenger.evaluation, recipe.min_recall
    required = f"at least {minimum:g} for every digit"
    found = {digit: recall for digit, recall in enumerate(evaluation.recall) if recall is not None}
    if len(found) < 10:
        measured = f"the test set has only {len(found)} of 10 digits"
        return Rule("digit recall", required, measured, passed=False)
    worst = min(found, key=found.__getitem__)
    row = evaluation.confusion[worst]
    measured = f"lowest for {worst}: {found[worst]:.4f} ({row[worst]:,} of {sum(row):,})"
    return Rule("digit recall", required, measured, found[worst] >= minimum)


def _faithful(challenger: Score, measurements: Measurements, _: Recipe) -> Rule:
    stored, trained = challenger.evaluation.correct, measurements.trained.correct
    difference = challenger.golden_difference
    return Rule(
        name="faithful",
        required=f"{trained:,} correct as in Keras, golden batch within {GOLDEN_TOLERANCE:g}",
        measured=f"{stored:,} correct, golden batch within {difference:.1g}",
        passed=stored == trained and difference <= GOLDEN_TOLERANCE,
    )


def _champion(challenger: Score, measurements: Measurements, recipe: Recipe) -> Rule:
    seen = measurements.compared_with
    required = f"{PHRASES[recipe.champion_rule]} {seen.version if seen else 'the champion'}"
    if measurements.champion is None and seen is None:
        return Rule("champion", required, "no champion yet", passed=True)
    champion = usable(measurements.champion)
    if isinstance(champion, NotScored):
        problem = f"it cannot be scored: {champion.reason}; {WAY_OUT}"
        return Rule("champion", required, problem, passed=False)
    best = usable(measurements.best or champion)
    if isinstance(best, NotScored):
        problem = f"the best champion so far cannot be scored: {best.reason}; {OTHER_RULE}"
        return Rule("champion", required, problem, passed=False)
    if measurements.pairs is None:
        return Rule("champion", required, "not compared image by image", passed=False)
    return _compared(challenger, champion, best, measurements.pairs, required, recipe)


def _compared(
    challenger: Score, champion: Score, best: Score, pairs: Pairs, required: str, recipe: Recipe
) -> Rule:
    ours, needed = challenger.evaluation.correct, champion.evaluation.correct
    measured = (
        f"{ours:,} correct vs. {needed:,} for the champion (only challenger right:"
        f" {pairs.only_challenger:,}, only champion right: {pairs.only_champion:,})"
    )
    if recipe.champion_rule == "better":
        p = mcnemar(pairs.only_challenger, pairs.only_champion)
        required += f" (McNemar p below {SIGNIFICANCE:g})"
        return Rule("champion", required, f"{measured}; p = {p:.3g}", p < SIGNIFICANCE)
    if recipe.champion_rule == "non-inferior":
        needed = max(needed, best.evaluation.correct) - recipe.margin
        required += f": at most {recipe.margin:,} below the best champion so far"
    required = f"at least {needed:,} correct ({required})"
    return Rule("champion", required, measured, ours >= needed)


def _rollback(_: Score, measurements: Measurements, __: Recipe) -> Rule:
    rollback = measurements.rolled_back
    measured = "never rolled back"
    if rollback:
        why = f": {rollback.reason}" if rollback.reason else ""
        measured = f"rolled back by {rollback.actor} on {rollback.swapped_at:%Y-%m-%d}{why}"
    return Rule("rollback", "weights that were never rolled back", measured, rollback is None)


def _field(challenger: Score, measurements: Measurements, _: Recipe) -> Rule | None:
    """No rule without a field set."""
    field, champion = challenger.field, measurements.champion
    if field is None:
        return None
    required = f"not worse than the champion on {MIN_FIELD} or more corrections never trained on"
    measured = f"{field.correct:,} of {field.total:,} correct"
    if field.total < MIN_FIELD:
        return Rule("field", required, f"{measured}: too few to decide", passed=True)
    if champion is None:
        return Rule("field", required, f"{measured}; no champion yet", passed=True)
    if isinstance(champion, NotScored) or champion.field is None:
        return Rule("field", required, f"{measured}; the champion was not scored", passed=False)
    measured += f" vs. {champion.field.correct:,} for the champion"
    return Rule("field", required, measured, field.correct >= champion.field.correct)


def _field_parts(_: Score, measurements: Measurements, __: Recipe) -> Rule | None:
    """No digit and no person is given up for the others; no rule without a field set."""
    if not measurements.field_pairs:
        return None
    required = "no digit's and no person's corrections given up for others (McNemar p below"
    required += f" {SIGNIFICANCE:g})"
    worse = []
    for part, pairs in measurements.field_pairs.items():
        p = mcnemar(pairs.only_champion, pairs.only_challenger)
        if p < SIGNIFICANCE:
            worse.append(
                f"{part}: only challenger right: {pairs.only_challenger:,}, only champion right:"
                f" {pairs.only_champion:,}, p = {p:.3g}"
            )
    return Rule("field parts", required, "; ".join(worse) or "none was", passed=not worse)


def _robustness(challenger: Score, measurements: Measurements, recipe: Recipe) -> Rule | None:
    """No rule unless the recipe asks for it."""
    if not recipe.robust:
        return None
    required = f"at most {POINTS} point below the champion where it has {ABLE:.0%} right"
    ours, theirs = challenger.robustness, usable(measurements.champion)
    if ours is None:
        measured = "the transformed test images were not scored"
        return Rule("robustness", required, measured, passed=False)
    if measurements.champion is None:
        return Rule("robustness", required, "no champion yet", passed=True)
    if isinstance(theirs, NotScored) or theirs.robustness is None:
        return Rule("robustness", required, "the champion was not scored", passed=False)
    able = {n: c for n, c in theirs.robustness.items() if c.correct >= ABLE * c.total}
    pairs = {name: (ours[name], counts) for name, counts in able.items()}
    fallen = [
        f"{name} falls by {100 * (champions.correct - counts.correct) / counts.total:.2f} points"
        f" ({counts.correct:,} of {counts.total:,} correct vs. {champions.correct:,})"
        for name, (counts, champions) in pairs.items()
        if 100 * (champions.correct - counts.correct) > POINTS * counts.total
    ]
    return Rule(
        "robustness",
        required,
        "; ".join(fallen) or "no transformation fell by more",
        passed=not fallen,
    )


# Each takes the challenger's score, all measurements and the recipe; None leaves the rule out.
RULES: tuple[Callable[[Score, Measurements, Recipe], Rule | None], ...] = (
    _finite,
    _reference,
    _accuracy,
    _recall,
    _faithful,
    _champion,
    _rollback,
    _field,
    _field_parts,
    _robustness,
)
