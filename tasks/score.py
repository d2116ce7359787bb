"""Score: what the stored bytes of challenger and champion do on the test set."""

import io
import json
import logging
import subprocess
import sys
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.errors import ModelStoreError
from storage.models.history import History
from storage.models.store import ModelStore
from storage.records import Evaluation, Pointer, Swap
from storage.settings import PROJECT
from tasks.data.dataset import Dataset
from tasks.record import RunInProgress
from tasks.scoring.measure import FieldScore, Measurements, Mistake, Score
from tasks.scoring.worker import BEST, CHALLENGER, CHAMPION

TIMEOUT_S = 600

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def score(run: RunInProgress, dataset: Dataset, trained: Evaluation) -> Measurements:
    """Score the stored bytes of the challenger and of the champion on the whole test set.

    Args:
        run: Its candidate is the challenger.
        dataset: Its test images.
        trained: The challenger in memory, which the stored one has to be faithful to.
    """
    while True:
        measurements = _measure(run, dataset, trained)
        moved = _pointer(run.store) != measurements.compared_with
        # A champion that could not be scored may have been removed after it was replaced.
        if not (moved and isinstance(measurements.champion, str)):
            return measurements


def _measure(run: RunInProgress, dataset: Dataset, trained: Evaluation) -> Measurements:
    store = run.store
    models = {CHALLENGER: (str(store.candidate(run.id)), run.candidate_digest)}
    try:
        history = store.history()
    except ModelStoreError as error:
        scores = _in_a_new_process(models, dataset)
        return Measurements(
            trained,
            _score_of(scores, CHALLENGER, dataset),
            str(error),
            compared_with=_pointer(store),
        )
    champion = history.swaps[-1] if history.swaps else None
    if champion:
        models[CHAMPION] = (str(store.version(champion.version)), champion.digest)
    best = _best(history, store) if run.recipe.champion_rule == "non-inferior" else None
    if best:
        models[BEST] = (str(store.version(best.version)), best.digest)
    scores = _in_a_new_process(models, dataset)
    return Measurements(
        trained=trained,
        challenger=_score_of(scores, CHALLENGER, dataset),
        champion=_score_of(scores, CHAMPION, dataset) if champion else None,
        best=_score_of(scores, BEST, dataset) if best else None,
        compared_with=champion.pointer if champion else None,
        only_challenger=scores.get("only_challenger"),
        only_champion=scores.get("only_champion"),
        rolled_back=history.rolled_back.get(run.lineage["weights_digest"]),
    )


def _best(history: History, store: ModelStore) -> Swap | None:
    """The best champion ever that is still kept, unless it is the champion itself."""
    best = history.best_of(store.kept())
    return None if best is None or best.version == history.swaps[-1].version else best


def _pointer(store: ModelStore) -> Pointer | None:
    try:
        return store.champion()
    except ModelStoreError:
        return None


def _score_of(scores: dict[str, Any], name: str, dataset: Dataset) -> Score | str:
    found = scores[name]
    if "error" in found:
        return str(found["error"])
    confusion = tuple(tuple(row) for row in found["confusion"])
    mistakes = tuple(Mistake(*mistake) for mistake in found["mistakes"])
    total = len(dataset.field_labels)
    field = FieldScore(found["field_correct"], total) if total else None
    return Score(Evaluation(found["loss"], confusion), found["golden_difference"], mistakes, field)


def _in_a_new_process(models: dict[str, tuple[str, str]], dataset: Dataset) -> dict[str, Any]:
    """What ``tasks.scoring.worker`` says; if it says nothing, the same error for every model."""
    test_set = io.BytesIO()
    np.savez(
        test_set,
        images=dataset.test_images,
        labels=dataset.test_labels,
        field_images=dataset.field_images,
        field_labels=dataset.field_labels,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tasks.scoring.worker", json.dumps(models)],
            check=True,
            cwd=PROJECT,
            input=test_set.getvalue(),
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        scores: dict[str, Any] = json.loads(done.stdout)
        if not (isinstance(scores, dict) and models.keys() <= scores.keys()):
            raise ValueError(f"expected a score for each model, received {done.stdout[:80]!r}")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        log.warning("the stored models could not be scored: %s\n%s", error, said)
        why = said.rpartition("\n")[2] or type(error).__name__
        return {name: {"error": f"the process that scores it failed ({why})"} for name in models}
    return scores
