"""Gate: from what was measured to a decision, with a reason for every rule."""

import math
from decimal import ROUND_CEILING, Decimal

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.records import Decision, Evaluation, Rule


@task(cache_policy=NO_CACHE)
def gate(evaluation: Evaluation, min_accuracy: float) -> Decision:
    """Decide whether the challenger may become the champion; in doubt it may not.

    Args:
        evaluation: Of the challenger, on the whole test set.
        min_accuracy: Share of the test images, in [0, 1], that has to be right.
    """
    return Decision((_finite(evaluation), _accuracy(evaluation, min_accuracy)))


def _finite(evaluation: Evaluation) -> Rule:
    return Rule(
        name="finite",
        required="a finite number",
        measured=f"test loss {evaluation.loss:.4f}",
        passed=math.isfinite(evaluation.loss),
    )


def _accuracy(evaluation: Evaluation, min_accuracy: float) -> Rule:
    correct, total = evaluation.correct, evaluation.total
    # In decimals: as floats 0.07 of 100 images are 7.000000000000001.
    needed = None
    if math.isfinite(min_accuracy):
        needed = int((Decimal(str(min_accuracy)) * total).to_integral_value(ROUND_CEILING))
    return Rule(
        name="accuracy",
        required=f"at least {min_accuracy:g}" + (f" ({needed:,})" if needed is not None else ""),
        measured=f"{correct:,} of {total:,} right",
        passed=total > 0 and needed is not None and correct >= needed,
    )
