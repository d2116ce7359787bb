"""Hold: corrections that the champion contradicts in number wait until a person accepts them."""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.errors import ModelStoreError
from storage.models.classifier import load_classifier
from storage.models.store import ModelStore
from storage.tables.schema import Correction
from tasks.corrections import images_of

# More contradicted ones than this are held if they are more than half of a person's corrections,
# or more than half of those in which champions read the same other digit.
MANY = 20
# More contradicted ones with the same answer than this are held in any case.
TOO_MANY = 30
# Of one person, so many are used before anyone accepts them.
MAX_OF_PERSON = 500

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Held:
    """Corrections, and which of them are held.

    Args:
        rows: Those that the run may learn from; None where the recipe does not ask for any.
        answers: What the champion answered to those that no run asked about before, and the
            probability in [0, 1], by digest.
        reasons: Why a correction is held, by digest; not of those that earlier runs held.
        actors: How many are held, by the person who sent them.
    """

    rows: Sequence[Correction] | None
    answers: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    actors: Mapping[str, int] = field(default_factory=dict)

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``; none where the recipe does not ask for corrections."""
        if self.rows is None:
            return {}
        held = sum(self.actors.values())
        return {"corrections_held": held, "held_actors": dict(self.actors)}


@task(cache_policy=NO_CACHE)
def hold(rows: Sequence[Correction] | None, store: ModelStore) -> Held:
    """Ask the champion about new corrections, and find those to hold.

    Args:
        rows: The corrections that were not revoked, oldest first; None where the recipe asks
            for none. The champion's answers are set in them too.
        store: Has the champion; without one, or if it cannot be loaded, none is asked.
    """
    if not rows:
        return Held(rows)
    answers = _ask([row for row in rows if row.asked_answer is None], store)
    for row in rows:
        if row.digest in answers:
            row.asked_answer, row.asked_probability = answers[row.digest]
    reasons = reasons_to_hold([row for row in rows if row.accepted_at is None])
    held = {row.digest for row in rows if row.held} | reasons.keys()
    actors = Counter(row.actor for row in rows if row.digest in held)
    if held:
        people = ", ".join(f"{count} of {actor}" for actor, count in actors.most_common(5))
        log.warning("%d corrections are held (%s): digits corrections --held", len(held), people)
    return Held([row for row in rows if row.digest not in held], answers, reasons, actors)


def _ask(rows: Sequence[Correction], store: ModelStore) -> dict[str, tuple[int, float]]:
    try:
        champion = store.champion()
        if champion is None or not rows:
            return {}
        classifier = load_classifier(store.version(champion.version), champion.digest)
    except ModelStoreError as error:
        log.warning("the champion cannot be asked about corrections: %s", error)
        return {}
    probabilities = classifier.probabilities(images_of(rows))
    return {
        row.digest: (int(answers.argmax()), min(float(answers.max()), 1.0))
        for row, answers in zip(rows, probabilities, strict=True)
        if np.isfinite(answers).all()
    }


def reasons_to_hold(rows: Sequence[Correction]) -> dict[str, str]:
    """Why corrections that nobody accepted are held, by digest; ``rows`` are oldest first."""
    reasons: dict[str, str] = {}
    by_actor, by_answer = defaultdict(list), defaultdict(list)
    for row in rows:
        by_actor[row.actor].append(row)
    for actor, sent in by_actor.items():
        reasons |= _of_person(actor, sent)
    for row in rows:
        if row.doubted and not row.held and row.digest not in reasons:
            by_answer[row.asked_answer].append(row)
    for answer, doubted in by_answer.items():
        reasons |= _of_answer(answer, doubted)
    return reasons


def _of_person(actor: str, sent: Sequence[Correction]) -> dict[str, str]:
    """All of a person's if the champion contradicts more than half of them in number."""
    contradicted = sum(row.contradicted for row in sent)
    if contradicted > MANY and contradicted > len(sent) / 2:
        why = f"the champion was sure of other digits in {contradicted} of {actor}'s {len(sent)}"
        return {row.digest: why for row in sent}
    why = f"{actor} sent {len(sent)}, more than the {MAX_OF_PERSON} that need not be accepted"
    return {row.digest: why for row in sent[MAX_OF_PERSON:]}


def _of_answer(answer: int | None, doubted: Sequence[Correction]) -> dict[str, str]:
    """The contradicted ones of all people that the champion reads as the same other digit."""
    contradicted = [row for row in doubted if row.contradicted]
    count = len(contradicted)
    if count > TOO_MANY or (count > MANY and count > len(doubted) / 2):
        why = f"the champion was sure of a {answer} in {count} with other labels"
        return {row.digest: why for row in contradicted}
    return {}
