"""Record: the run's row, from before anything can fail to its terminal status."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from storage.errors import DatabaseError, DigitsError, ModelStoreError, RunClosedError
from storage.models.store import open_store
from storage.recipe import Recipe
from storage.records import Decision, Status
from storage.recovery import close_dead_runs, promotion_of
from storage.settings import Settings
from storage.tables.database import open_database
from storage.tables.promotions import Promotions
from storage.tables.runs import Runs
from tasks.data.dataset import Dataset
from tasks.lineage import lineage
from tasks.scoring.measure import Measurements, Score, interval
from tasks.train import Epoch
from tasks.validate import DataCheck, Statistics

log = logging.getLogger("digits")


class RunInProgress:
    """A run whose row is open: what the steps learn is written through it.

    Args:
        recipe: What the run does.
        settings: Where its row and its model go.
    """

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
        self.recipe = recipe
        self._reports = settings.home / "reports"
        self.engine = open_database(settings.database_url)
        self.runs = Runs(self.engine, settings.lease_s)
        self.promotions = Promotions(self.engine)
        self.store = open_store(settings, recipe.name)
        close_dead_runs(self.runs, settings)
        self.lineage: dict[str, Any] = lineage()
        self.id = self.runs.open(recipe, **self.lineage)
        self.lineage |= recipe.columns()
        self.candidate_digest = ""
        self.outcome: tuple[Status, str] | None = None
        self.sync_promotions()
        log.info("run %s", self.id)

    def note(self, **columns: Any) -> None:
        """Write columns of the row and renew its lease.

        Raises:
            RunClosedError: If another process has closed the row as lost.
        """
        self.runs.note(self.id, **columns)

    def loaded(self, dataset: Dataset) -> Dataset:
        """Write what the run is trained on, and give it back."""
        self.lineage["data_digest"] = dataset.digest
        self.note(data_digest=dataset.digest, train_total=len(dataset.train_images))
        return dataset

    def trained(self, curve: list[Epoch]) -> list[Epoch]:
        """Write the learning curve, its last point and its seconds too, and give it back."""
        self.runs.add_epochs(
            self.id, ((epoch.loss, epoch.accuracy, epoch.duration_s) for epoch in curve)
        )
        self.note(
            train_loss=curve[-1].loss,
            train_accuracy=curve[-1].accuracy,
            fit_s=sum(epoch.duration_s for epoch in curve),
        )
        return curve

    def champion_data(self) -> Statistics | None:
        """How the champion's training data is distributed; None where that is not known."""
        try:
            champion = self.store.read_champion()
        except ModelStoreError as error:
            log.warning("drift cannot be measured: %s", error)
            return None
        return champion[1].manifest.get("training_data") if champion else None

    def checked(self, check: DataCheck) -> None:
        """Write what the data check found; the manifest gets how the data is distributed."""
        self.lineage |= {"test_digest": check.test_digest, "training_data": check.statistics}
        self.note(
            duplicates=check.duplicates,
            pixel_drift=check.pixel_drift,
            label_drift=check.label_drift,
        )

    def staged(self, weights: str) -> None:
        """Write the weights' digest, by which they are known whatever file holds them."""
        self.lineage["weights_digest"] = weights
        self.note(weights_digest=weights)

    def decided(self, measurements: Measurements, decision: Decision) -> None:
        """Write what was measured and decided; what is not finite, or counted from it, is empty."""
        stored, champion = measurements.challenger, measurements.champion
        theirs = champion.evaluation if isinstance(champion, Score) else None
        field = stored.field if isinstance(stored, Score) else None
        their_field = champion.field if theirs and isinstance(champion, Score) else None
        if theirs and theirs.finite_loss is None:
            theirs = None
        evaluation = stored.evaluation if isinstance(stored, Score) else measurements.trained
        seen = measurements.compared_with
        total = evaluation.total if evaluation.finite_loss is not None else 0
        compared = theirs is not None and total > 0
        if total:
            self.runs.set_digits(self.id, evaluation)
        low, high = interval(evaluation.correct, total) if total else (None, None)
        self.runs.decide(
            self.id,
            self.lineage["test_digest"],
            test_loss=evaluation.finite_loss,
            test_accuracy=evaluation.correct / total if total else None,
            test_correct=evaluation.correct if total else None,
            test_total=total or None,
            accuracy_low=low,
            accuracy_high=high,
            champion_version=seen.version if seen else None,
            champion_correct=theirs.correct if theirs else None,
            only_challenger_correct=measurements.only_challenger if compared else None,
            only_champion_correct=measurements.only_champion if compared else None,
            field_correct=field.correct if field and total else None,
            champion_field_correct=their_field.correct if their_field and compared else None,
            rules=[asdict(rule) for rule in decision.rules],
        )

    def write_report(self, markdown: str) -> None:
        """Keep the report as a file, for who has no Prefect server at hand."""
        self._reports.mkdir(parents=True, exist_ok=True)
        (self._reports / f"{self.id}.md").write_text(markdown, encoding="utf-8")

    def finish(self, status: Status, reason: str, **columns: Any) -> None:
        """Give the row its terminal status."""
        self.runs.close(self.id, status, reason, **columns)
        self.outcome = (status, reason)

    def sync_promotions(self) -> None:
        """Bring the table of promotions up to what the store's history says."""
        try:
            self.promotions.sync(self.store.name, self.store.history())
        except (DatabaseError, ModelStoreError) as error:
            log.warning("the table of promotions waits for the next run: %s", error)

    def state(self) -> State[None]:
        """What Prefect is told: a rejected run is a result, not an outage."""
        status, reason = self.outcome or (Status.FAILED, "the run ended without a decision")
        if status is Status.FAILED:
            return Failed(message=reason)
        return Completed(name=status.value.capitalize(), message=reason)


@contextmanager
def record(recipe: Recipe, settings: Settings) -> Iterator[RunInProgress]:
    """Open the run's row, keep its lease alive, and close it whatever happens.

    A DigitsError ends here: the row and the run's state carry its message. Anything else
    is written to the row and raised again.

    Raises:
        DatabaseError: If the row cannot be opened.
    """
    run = RunInProgress(recipe, settings)
    ended = threading.Event()
    threading.Thread(target=_keep_lease, args=(run, ended, settings.lease_s), daemon=True).start()
    try:
        yield run
    except DigitsError as error:
        _close(run, Status.FAILED, str(error))
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        _close(run, Status.FAILED, f"{type(error).__name__}: {first_line}")
        raise
    except BaseException as error:
        _close(run, Status.CANCELLED, f"ended from outside ({type(error).__name__})")
        raise
    finally:
        ended.set()
        run.store.discard(run.id)


def _close(run: RunInProgress, status: Status, reason: str) -> None:
    """Close the row after an error, unless it has its status, or its promotion stands."""
    if run.outcome is not None:
        return
    swap = promotion_of(run.store, run.id)
    try:
        if swap:
            run.finish(Status.PROMOTED, swap.reason, generation=swap.generation)
        else:
            run.finish(status, reason)
    except DigitsError as error:
        # Lost meanwhile, or the database is gone: the row stays, the state says why.
        log.warning("%s", error)
        run.outcome = (Status.FAILED, reason)


def _keep_lease(run: RunInProgress, ended: threading.Event, lease_s: float) -> None:
    while not ended.wait(lease_s / 4):
        try:
            run.note()
        except RunClosedError:
            return
        except DatabaseError as error:
            log.warning("%s", error)
