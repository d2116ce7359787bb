"""Compare: score the stored challenger and champion on the same images, in a new process."""

import io
import logging
import subprocess
import sys

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.errors import ModelStoreError
from storage.models.history import History
from storage.models.store import ModelStore
from storage.recipe import Recipe
from storage.records import Evaluation, Pointer, Swap
from storage.settings import PROJECT
from tasks.data.dataset import Dataset
from tasks.scoring.values import Measurements, NotScored
from tasks.scoring.worker import (
    ANSWER,
    BEST,
    CHALLENGER,
    CHAMPION,
    REQUEST,
    Answer,
    StoredModel,
)
from tasks.stage import Candidate

TIMEOUT_S = 600
# Training images of each label that the champion is asked about.
OF_EACH_LABEL = 500

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def compare(
    store: ModelStore, candidate: Candidate, dataset: Dataset, trained: Evaluation, recipe: Recipe
) -> Measurements:
    """Score the stored bytes of challenger and champion on the whole test set and the field set.

    The champion also answers some training images of each label, and brings its record along.
    The champion rule non-inferior needs the score of the best champion so far too. ``trained`` is
    the challenger in memory, which the stored one must be faithful to.
    """
    with_best = recipe.champion_rule == "non-inferior"
    while True:
        measurements = _compare(store, candidate, dataset, trained, with_best)
        moved = _pointer(store) != measurements.compared_with
        # A champion without a score may have been removed after it was replaced.
        if not (moved and isinstance(measurements.champion, NotScored)):
            return measurements


def _compare(
    store: ModelStore, candidate: Candidate, dataset: Dataset, trained: Evaluation, with_best: bool
) -> Measurements:
    models = {CHALLENGER: StoredModel(store.candidate(candidate.run_id), candidate.digest)}
    try:
        history = store.history()
    except ModelStoreError as error:
        return Measurements(
            dataset.test_digest,
            trained,
            _in_a_new_process(models, dataset).scores[CHALLENGER],
            champion=NotScored(str(error)),
            compared_with=_pointer(store),
        )
    champion = history.swaps[-1] if history.swaps else None
    if champion:
        models[CHAMPION] = StoredModel(store.version(champion.version), champion.digest)
    best = _best(history, store) if with_best else None
    if best:
        models[BEST] = StoredModel(store.version(best.version), best.digest)
    answer = _in_a_new_process(models, dataset)
    return Measurements(
        test_digest=dataset.test_digest,
        trained=trained,
        challenger=answer.scores[CHALLENGER],
        champion=answer.scores.get(CHAMPION),
        best=answer.scores.get(BEST),
        compared_with=champion.pointer if champion else None,
        pairs=answer.pairs,
        field_pairs=answer.field_pairs,
        rolled_back=history.rolled_back.get(candidate.weights_digest),
    )


def _best(history: History, store: ModelStore) -> Swap | None:
    """The best champion so far that is still kept, unless it is the champion itself."""
    best = history.best_of(store.kept())
    return None if best is None or best.version == history.swaps[-1].version else best


def _pointer(store: ModelStore) -> Pointer | None:
    try:
        return store.champion()
    except ModelStoreError:
        return None


def _in_a_new_process(models: dict[str, StoredModel], dataset: Dataset) -> Answer:
    """What ``tasks.scoring.worker`` answers; if it fails, every model is not scored."""
    sample = dataset.sample(OF_EACH_LABEL)
    given = io.BytesIO()
    np.savez(
        given,
        images=dataset.test_images,
        labels=dataset.test_labels,
        field_images=dataset.field_images,
        field_labels=dataset.field_labels,
        field_actors=dataset.field_actors,
        training_images=dataset.train_images[sample],
        training_labels=dataset.train_labels[sample],
        not_digits=dataset.not_digits,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tasks.scoring.worker", REQUEST.dump_json(models)],
            check=True,
            cwd=PROJECT,
            input=given.getvalue(),
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        answer = ANSWER.validate_json(done.stdout)
        if models.keys() != answer.scores.keys():
            raise ValueError(f"expected a score for each model, received {done.stdout[:80]!r}")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        output = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        log.warning("the stored models could not be scored: %s\n%s", error, output)
        reason = output.rpartition("\n")[2] or type(error).__name__
        failed = NotScored(f"the scoring process failed ({reason})")
        return Answer(dict.fromkeys(models, failed))
    return answer
