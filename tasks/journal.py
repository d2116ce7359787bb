"""Journal: a run's row, opened before anything can fail and closed whatever happens."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from storage.errors import DatabaseError, DigitsError, ModelStoreError, RunClosedError
from storage.lives import sign_of_life
from storage.models.store import open_store
from storage.provenance import Provenance, read_provenance
from storage.recipe import Recipe
from storage.records import Outcome, Status
from storage.recovery import close_dead_runs
from storage.settings import Settings
from storage.tables.corrections import Corrections
from storage.tables.database import open_database
from storage.tables.promotions import Promotions
from storage.tables.runs import Runs
from storage.tables.schema import Correction, Run
from tasks.corrections import Corrected
from tasks.data.dataset import Dataset
from tasks.hold import Held
from tasks.limits import TimeLimitError, time_limit
from tasks.reporting import best_effort
from tasks.scoring.values import Measurements
from tasks.train import Trained

log = logging.getLogger("digits")


class Noted(Protocol):
    """A step's result that fills columns of the run's row."""

    def columns(self) -> dict[str, object]:
        """Columns of ``runs``."""
        ...


N = TypeVar("N", bound=Noted)


class Journal:
    """The row of one run.

    Raises:
        DatabaseError: If the row cannot be opened.
    """

    def __init__(self, recipe: Recipe, settings: Settings, provenance: Provenance) -> None:
        engine = open_database(settings.database_url)
        self._runs = Runs(engine, settings.lease_s)
        self._promotions = Promotions(engine)
        self._corrections = Corrections(engine, recipe.name)
        self._learning: Sequence[Correction] = ()
        self._recipe = recipe
        self.provenance = provenance
        self.store = open_store(settings, recipe.name)
        close_dead_runs(self._runs, settings)
        self.id = self._runs.open(recipe, **provenance.columns())
        self.outcome: Outcome | None = None
        self._sync_promotions()
        log.info("run %s", self.id)

    def note(self, value: N) -> N:
        """Write what a step returned, renew the lease, and give the value back.

        Raises:
            RunClosedError: If another process has closed the row as lost.
        """
        if isinstance(value, Trained):
            self._runs.add_epochs(self.id, map(asdict, value.curve.epochs))
        if isinstance(value, Measurements) and value.recorded:
            self._runs.set_digits(self.id, value.recorded)
        if isinstance(value, Measurements):
            counts = value.robustness.items()
            found = ((name, count.correct, count.total) for name, count in counts)
            self._runs.set_robustness(self.id, found)
        if isinstance(value, Held) and (value.answers or value.reasons):
            self._corrections.hold(value.answers, value.reasons)
        if isinstance(value, Corrected):
            self._learning = value.used
        self._runs.note(self.id, **value.columns())
        return value

    def close(self, outcome: Outcome) -> None:
        """Give the row its terminal status.

        Raises:
            RunClosedError: If it has one already.
        """
        generation = {} if outcome.generation is None else {"generation": outcome.generation}
        self._runs.close(self.id, outcome.status, outcome.reason, **generation)
        self.outcome = outcome
        if outcome.status is Status.PROMOTED:
            self._sync_promotions()
            with best_effort("the note of what was learnt"):
                self._corrections.learn(self.id, self._learning)

    def renew_lease(self) -> None:
        """Show that the run is alive.

        Raises:
            RunClosedError: If another process has closed the row as lost.
        """
        self._runs.note(self.id)

    def row(self) -> Run:
        """Read the row as it is now."""
        return self._runs.get(self.id)

    def newest_rows(self, limit: int) -> Sequence[Run]:
        """Read the newest rows kept under the same name, newest first."""
        return self._runs.newest(limit, name=self._recipe.name)

    def accepting(self, data: Dataset) -> Recipe:
        """The recipe; a change that a person accepted stays accepted.

        That is, for the same data, until the champion changes: a rollback takes it back.
        """
        recipe = self._recipe
        with suppress(ModelStoreError):
            swaps = self.store.history().swaps
            if swaps and self._runs.accepted(recipe.name, data.digest, swaps[-1].swapped_at):
                return replace(recipe, accept_change=True)
        return recipe

    def corrections(self) -> Sequence[Correction] | None:
        """Read the corrections to learn from; None unless the recipe asks for them."""
        return self._corrections.all() if self._recipe.corrections else None

    def _sync_promotions(self) -> None:
        """Bring the table of promotions up to date with the store's history."""
        try:
            self._promotions.sync(self._recipe.name, self.store.history())
        except (DatabaseError, ModelStoreError) as error:
            log.warning("the table of promotions is updated by the next run: %s", error)


@contextmanager
def journal(recipe: Recipe, settings: Settings) -> Iterator[Journal]:
    """Open the run's row, keep its lease alive, and close it whatever happens.

    A DigitsError and the end of the recipe's time end here: the row and the run's state carry the
    message. Any other exception is written to the row and raised again.

    Raises:
        DatabaseError: If the row cannot be opened.
    """
    run = Journal(recipe, settings, read_provenance(flow_run.id))
    ended = threading.Event()
    threading.Thread(target=_keep_lease, args=(run, ended, settings.lease_s), daemon=True).start()
    alive = ExitStack()
    alive.enter_context(sign_of_life(settings.home, run.id))
    try:
        with time_limit(recipe.max_hours, partial(_give_up, run)):
            yield run
    except (DigitsError, TimeLimitError) as error:
        _close(run, Outcome(Status.FAILED, str(error)))
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        _close(run, Outcome(Status.FAILED, f"{type(error).__name__}: {first_line}"))
        raise
    except BaseException as error:
        _close(run, Outcome(Status.CANCELLED, f"stopped from outside ({type(error).__name__})"))
        raise
    finally:
        ended.set()
        run.store.discard(run.id)
        alive.close()


def state_of(outcome: Outcome | None) -> State[None]:
    """The state of the flow run in Prefect: a rejected run is a result, not an outage."""
    outcome = outcome or Outcome(Status.FAILED, "the run ended without a decision")
    if outcome.status is Status.FAILED:
        return Failed(message=outcome.reason)
    return Completed(name=outcome.status.value.capitalize(), message=outcome.reason)


def _close(run: Journal, outcome: Outcome) -> None:
    """Close the row after an error, unless it is closed, or the model was promoted after all."""
    if run.outcome is not None:
        return
    with suppress(ModelStoreError):
        if swap := run.store.history().promotion(run.id):
            outcome = Outcome(Status.PROMOTED, swap.reason, swap.generation)
    try:
        run.close(outcome)
    except DigitsError as error:
        # Another process closed it as lost, or the database is gone: only the state can say why.
        log.warning("%s", error)
        run.outcome = Outcome(Status.FAILED, outcome.reason)


def _give_up(run: Journal, reason: str) -> None:
    """Close a run whose thread hangs, in the table and in Prefect; its process is about to end."""
    with suppress(ModelStoreError):
        run.store.give_up(run.id)  # it promotes nothing, even if it wakes up now
    _close(run, Outcome(Status.FAILED, reason))
    run.store.discard(run.id)
    if run.provenance.flow_run_id:
        with best_effort("the end of the flow run"), get_client(sync_client=True) as client:
            state: State[None] = Failed(message=reason)
            client.set_flow_run_state(UUID(run.provenance.flow_run_id), state, force=True)


def _keep_lease(run: Journal, ended: threading.Event, lease_s: float) -> None:
    while not ended.wait(lease_s / 4):
        try:
            run.renew_lease()
        except RunClosedError:
            return
        except DatabaseError as error:
            log.warning("%s", error)
