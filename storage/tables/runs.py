"""The table of runs: one row per run, from before training to its terminal status."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, func, select, update
from sqlalchemy.orm import Session

from storage.errors import RunClosedError, RunNotFoundError
from storage.recipe import Recipe
from storage.records import Evaluation, Status
from storage.tables.database import explained
from storage.tables.schema import DigitMetric, EpochRow, Run


class Runs:
    """Reads and writes the table ``runs``.

    Args:
        engine: From ``open_database``.
        lease_s: Seconds without a sign of life after which a run counts as lost.

    Every method raises DatabaseError if the database cannot be read or written.
    """

    def __init__(self, engine: Engine, lease_s: float) -> None:
        self._engine = engine
        self._lease = timedelta(seconds=lease_s)

    def check_writable(self) -> None:
        """See at once whether rows can be written, before anything is started."""
        with self._explained(), self._writing() as session:
            session.connection()

    def open(self, recipe: Recipe, **lineage: Any) -> str:
        """Insert the row of a run that begins now, and return its id.

        The id sorts by time and names the run, its row and its model's version.
        """
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        row = Run(
            run_id=run_id,
            status=Status.RUNNING,
            started_at=now,
            lease_expires_at=now + self._lease,
            **recipe.columns(),
            **lineage,
        )
        with self._explained(), self._writing() as session:
            session.add(row)
        return run_id

    def note(self, run_id: str, **values: Any) -> None:
        """Write columns of a running row, and renew its lease.

        Raises:
            RunClosedError: If the row is not running any more.
        """
        expires = datetime.now(UTC) + self._lease
        self._write(run_id, {**values, "lease_expires_at": expires})

    def close(self, run_id: str, status: Status, reason: str, **values: Any) -> None:
        """Give a running row its terminal status.

        Raises:
            RunClosedError: If it has one already.
        """
        now = datetime.now(UTC)
        duration_s = (now - self.get(run_id).started_at).total_seconds()
        self._write(
            run_id,
            {
                **values,
                "status": status,
                "reason": reason,
                "finished_at": now,
                "duration_s": duration_s,
            },
        )

    def decide(self, run_id: str, test_digest: str, **values: Any) -> None:
        """Write what was measured and decided on a test set, and how often it was used so far.

        Raises:
            RunClosedError: If the row is not running any more.
        """
        uses = (
            select(func.count() + 1)
            .where(Run.test_digest == test_digest, Run.run_id != run_id)
            .scalar_subquery()
        )
        self.note(run_id, **values, test_digest=test_digest, test_uses=uses)

    def add_epochs(self, run_id: str, epochs: Iterable[tuple[float, float, float]]) -> None:
        """Write a learning curve: loss, accuracy and seconds of each epoch, in their order."""
        with self._explained(), self._writing() as session:
            session.add_all(
                EpochRow(
                    run_id=run_id, epoch=number, loss=loss, accuracy=accuracy, duration_s=seconds
                )
                for number, (loss, accuracy, seconds) in enumerate(epochs, start=1)
            )

    def set_digits(self, run_id: str, evaluation: Evaluation) -> None:
        """Write what the model does with each digit; a second time replaces the first."""
        answers = [sum(column) for column in zip(*evaluation.confusion, strict=True)]
        with self._explained(), self._writing() as session:
            for digit, row in enumerate(evaluation.confusion):
                metric = DigitMetric(
                    run_id=run_id,
                    digit=digit,
                    images=sum(row),
                    correct=row[digit],
                    answers=answers[digit],
                    recall=evaluation.recall[digit],
                    precision=evaluation.precision[digit],
                )
                session.merge(metric)

    def epochs_of(self, run_id: str) -> Sequence[EpochRow]:
        """Read a learning curve, first epoch first."""
        rows = select(EpochRow).where(EpochRow.run_id == run_id).order_by(EpochRow.epoch)
        with self._explained(), self._reading() as session:
            return session.scalars(rows).all()

    def digits_of(self, run_id: str) -> Sequence[DigitMetric]:
        """Read what a run's model does with each digit, 0 to 9."""
        rows = select(DigitMetric).where(DigitMetric.run_id == run_id).order_by(DigitMetric.digit)
        with self._explained(), self._reading() as session:
            return session.scalars(rows).all()

    def expired(self) -> Sequence[Run]:
        """Read the rows of running runs that gave no sign of life for the time of a lease."""
        rows = select(Run).where(*self._dead())
        with self._explained(), self._reading() as session:
            return session.scalars(rows).all()

    def close_expired(self, run_id: str, status: Status, reason: str, **values: Any) -> bool:
        """Give the row of a dead run its terminal status.

        Returns:
            False if it is not dead: it has renewed its lease, or another has closed it.
        """
        dead = update(Run).where(Run.run_id == run_id, *self._dead()).returning(Run.run_id)
        values |= {"status": status, "reason": reason, "finished_at": datetime.now(UTC)}
        with self._explained(), self._writing() as session:
            return session.scalars(dead.values(values)).first() is not None

    def get(self, run_id: str) -> Run:
        """Read one row.

        Raises:
            RunNotFoundError: If there is none.
        """
        with self._explained(), self._reading() as session:
            row = session.get(Run, run_id)
        if row is None:
            raise RunNotFoundError(
                f"expected the id of a run, received {run_id!r}; `digits history` lists them"
            )
        return row

    def of_flow_run(self, flow_run_id: str) -> Run | None:
        """Read the newest row of a Prefect flow run; None if it never opened one."""
        rows = select(Run).where(Run.flow_run_id == flow_run_id).order_by(Run.started_at.desc())
        with self._explained(), self._reading() as session:
            return session.scalars(rows.limit(1)).first()

    def newest(
        self,
        limit: int | None,
        *,
        dataset: str | None = None,
        status: Status | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Run]:
        """Read the newest rows, newest first.

        Args:
            limit: At most so many; None means all.
            dataset: Only this dataset's.
            status: Only those with this status.
            since: Only those that started then or later; aware.
            until: Only those that started before; aware.
        """
        rows = select(Run).order_by(Run.started_at.desc(), Run.run_id.desc()).limit(limit)
        if dataset is not None:
            rows = rows.where(Run.dataset == dataset)
        if status is not None:
            rows = rows.where(Run.status == status)
        if since is not None:
            rows = rows.where(Run.started_at >= since)
        if until is not None:
            rows = rows.where(Run.started_at < until)
        with self._explained(), self._reading() as session:
            return session.scalars(rows).all()

    def _write(self, run_id: str, values: dict[str, Any]) -> None:
        running = update(Run).where(Run.run_id == run_id, Run.status == Status.RUNNING)
        with self._explained(), self._writing() as session:
            found = session.scalars(running.values(values).returning(Run.run_id)).first()
        if found is None:
            status = self.get(run_id).status
            why = "; it gave no sign of life for DIGITS_LEASE_S" if status == Status.LOST else ""
            raise RunClosedError(f"expected run {run_id} to be running, found it {status}{why}")

    def _dead(self) -> tuple[ColumnElement[bool], ...]:
        return Run.status == Status.RUNNING, Run.lease_expires_at < datetime.now(UTC)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def _reading(self) -> Session:
        return Session(self._engine.execution_options(readonly=True), expire_on_commit=False)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self._engine.url)
