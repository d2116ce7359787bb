"""Gate: from what was measured to a decision, with a reason for every rule. It fails closed."""

import math
from decimal import ROUND_CEILING, Decimal

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.models.classifier import GOLDEN_TOLERANCE
from storage.recipe import Recipe
from storage.records import Decision, Evaluation, Rule
from tasks.scoring.measure import FieldScore, Measurements, Score, interval, mcnemar

SIGNIFICANCE = 0.05
# Of fewer field images a single one decides too much.
MIN_FIELD = 50
PHRASES = {
    "not-worse": "not worse than",
    "better": "better than",
    "non-inferior": "not inferior to",
}
WAY_OUT = "`digits rollback` goes back to an earlier one"


@task(cache_policy=NO_CACHE)
def gate(measurements: Measurements, recipe: Recipe) -> Decision:
    """Decide whether the challenger may become the champion; in doubt it may not.

    Args:
        measurements: Of the challenger and of the champion, on the whole test set.
        recipe: Its minimum accuracy, confident, minimum recall, champion rule and margin
            are what is asked for.
    """
    challenger = measurements.challenger
    if isinstance(challenger, str):
        return Decision((Rule("scored", "a stored model that answers", challenger, passed=False),))
    evaluation = challenger.evaluation
    return Decision(
        (
            _finite(challenger, measurements.trained),
            _accuracy(evaluation, recipe),
            _recall(evaluation, recipe.min_recall),
            _faithful(challenger, measurements.trained),
            _champion(evaluation, measurements, recipe),
            _rollback(measurements),
            *_field(challenger.field, measurements.champion),
        )
    )


def _finite(challenger: Score, trained: Evaluation) -> Rule:
    numbers = {
        "test loss": challenger.evaluation.loss,
        "in Keras": trained.loss,
        "golden difference": challenger.golden_difference,
    }
    wrong = {name: value for name, value in numbers.items() if not math.isfinite(value)}
    return Rule(
        name="finite",
        required="finite answers and loss",
        measured=", ".join(f"{k} {v}" for k, v in wrong.items())
        or f"test loss {challenger.evaluation.loss:.4f}",
        passed=not wrong,
    )


def _accuracy(evaluation: Evaluation, recipe: Recipe) -> Rule:
    correct, total, minimum = evaluation.correct, evaluation.total, recipe.min_accuracy
    # In decimals: as floats 0.07 of 100 images are 7.000000000000001.
    needed = int((Decimal(str(minimum)) * total).to_integral_value(ROUND_CEILING))
    required = f"at least {minimum:g} ({needed:,})"
    measured = f"{correct:,} of {total:,} right"
    passed = total > 0 and correct >= needed
    if total:
        low, high = interval(correct, total)
        measured += f" (95 % interval {low:.4f} to {high:.4f})"
        if recipe.confident:
            required += ", and the lower bound of the interval too"
            passed = passed and low >= minimum
    return Rule("accuracy", required, measured, passed)


def _recall(evaluation: Evaluation, minimum: float) -> Rule:
    found = {
        digit: evaluation.confusion[digit][digit] / sum(row)
        for digit, row in enumerate(evaluation.confusion)
        if sum(row)
    }
    required = f"at least {minimum:g} of each digit"
    if len(found) < 10:
        return Rule("digit recall", required, f"{len(found)} of 10 digits measured", passed=False)
    worst = min(found, key=found.__getitem__)
    row = evaluation.confusion[worst]
    return Rule(
        name="digit recall",
        required=required,
        measured=f"worst is {worst} with {found[worst]:.4f} ({row[worst]:,} of {sum(row):,})",
        passed=found[worst] >= minimum,
    )


def _faithful(challenger: Score, trained: Evaluation) -> Rule:
    stored, difference = challenger.evaluation.correct, challenger.golden_difference
    return Rule(
        name="faithful",
        required=f"{trained.correct:,} right as in Keras, golden batch within {GOLDEN_TOLERANCE:g}",
        measured=f"{stored:,} right, golden batch within {difference:.1g}",
        passed=stored == trained.correct and difference <= GOLDEN_TOLERANCE,
    )


def _champion(evaluation: Evaluation, measurements: Measurements, recipe: Recipe) -> Rule:
    seen = measurements.compared_with
    required = f"{PHRASES[recipe.champion_rule]} {seen.version if seen else 'the champion'}"
    if measurements.champion is None and seen is None:
        return Rule("champion", required, "there is no champion yet", passed=True)
    compared = _compared(measurements)
    if isinstance(compared, str):
        return Rule("champion", required, compared, passed=False)
    theirs, best, only_ours, only_theirs = compared
    ours = evaluation.correct
    measured = (
        f"{ours:,} right against {theirs:,}, of which alone {only_ours:,} against {only_theirs:,}"
    )
    if recipe.champion_rule == "better":
        p = mcnemar(only_ours, only_theirs)
        required += f" (McNemar, p below {SIGNIFICANCE:g})"
        return Rule("champion", required, f"{measured}; p {p:.3g}", p < SIGNIFICANCE)
    if recipe.champion_rule == "not-worse":
        return Rule("champion", f"{required} (at least {theirs:,})", measured, ours >= theirs)
    needed = max(theirs, best) - recipe.margin
    required += f" (at least {needed:,}: the best ever less {recipe.margin:,})"
    return Rule("champion", required, measured, ours >= needed)


def _compared(measurements: Measurements) -> tuple[int, int, int, int] | str:
    """Images right by the champion, by the best ever, by one alone; or why that is not known."""
    theirs = _correct(measurements.champion)
    best = theirs if measurements.best is None else _correct(measurements.best)
    if isinstance(theirs, str):
        return f"it cannot be scored: {theirs}; {WAY_OUT}"
    if isinstance(best, str):
        return f"the best champion ever cannot be scored: {best}; choose another champion rule"
    if measurements.only_challenger is None or measurements.only_champion is None:
        return "it was not compared image by image"
    return theirs, best, measurements.only_challenger, measurements.only_champion


def _correct(score: Score | str | None) -> int | str:
    """Images right, or why there is no such number."""
    if score is None:
        return "nobody measured it"
    if isinstance(score, str):
        return score
    if not math.isfinite(score.evaluation.loss):
        return "its test loss is not finite"
    if not score.golden_difference <= GOLDEN_TOLERANCE:
        return f"its golden batch is {score.golden_difference:.1g} off"
    return score.evaluation.correct


def _field(ours: FieldScore | None, champion: Score | str | None) -> tuple[Rule, ...]:
    """No rule without a field set: then there is nothing that people corrected."""
    if ours is None:
        return ()
    required = f"corrections never trained on: not worse than the champion, from {MIN_FIELD} on"
    measured = f"{ours.correct:,} of {ours.total:,} right"
    if ours.total < MIN_FIELD:
        return (Rule("field", required, f"{measured}: too few", passed=True),)
    if champion is None:
        return (Rule("field", required, f"{measured}; there is no champion yet", passed=True),)
    if isinstance(champion, str) or champion.field is None:
        return (Rule("field", required, f"{measured}; the champion was not scored", passed=False),)
    measured += f" against {champion.field.correct:,}"
    return (Rule("field", required, measured, passed=ours.correct >= champion.field.correct),)


def _rollback(measurements: Measurements) -> Rule:
    gone = measurements.rolled_back
    measured = "nobody has"
    if gone:
        why = f": {gone.reason}" if gone.reason else ""
        measured = f"{gone.actor} did on {gone.swapped_at:%Y-%m-%d}{why}"
    return Rule("rollback", "weights that nobody has rolled back", measured, gone is None)
