"""The table of runs: one row per run, from before training to its final status."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, delete, func, select, text, update

from storage.errors import RunClosedError, RunNotFoundError
from storage.recipe import Recipe
from storage.records import Evaluation, Status
from storage.settings import night_of
from storage.tables.database import reading, writing
from storage.tables.schema import DigitMetric, EpochRow, Robustness, Run


class Runs:
    """Reads and writes the table ``runs``.

    Args:
        lease_s: Seconds without a heartbeat after which a run counts as lost.

    Every method raises DatabaseError if the database cannot be read or written.
    """

    def __init__(self, engine: Engine, lease_s: float) -> None:
        self._engine = engine
        self._lease = timedelta(seconds=lease_s)

    def check_writable(self) -> None:
        """Check that rows can be written, before anything else is started."""
        with writing(self._engine) as session:
            # Taking the lock alone succeeds on a file or in a folder that is read-only.
            session.execute(text("UPDATE alembic_version SET version_num = version_num"))
            session.rollback()

    def open(self, recipe: Recipe, **lineage: Any) -> str:
        """Insert the row of a run that starts now, and return its id.

        The id sorts by time; the run, its row and its model version share it.
        """
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        row = Run(
            run_id=run_id,
            status=Status.RUNNING,
            started_at=now,
            night=night_of(now),
            lease_expires_at=now + self._lease,
            **recipe.columns(),
            **lineage,
        )
        with writing(self._engine) as session:
            session.add(row)
        return run_id

    def note(self, run_id: str, **values: Any) -> None:
        """Write columns of a running row, and renew its lease.

        With ``test_digest`` the row also gets ``test_uses``: this test set's decisions so far.

        Raises:
            RunClosedError: If the row is no longer running.
        """
        if "test_digest" in values:
            same = Run.test_digest == values["test_digest"]
            uses = select(func.count() + 1).where(same, Run.run_id != run_id)
            values["test_uses"] = uses.scalar_subquery()
        self._write(run_id, **values, lease_expires_at=datetime.now(UTC) + self._lease)

    def close(self, run_id: str, status: Status, reason: str, **values: Any) -> None:
        """Give a running row its final status.

        Raises:
            RunClosedError: If it already has one.
        """
        now = datetime.now(UTC)
        duration_s = (now - self.get(run_id).started_at).total_seconds()
        values |= {"finished_at": now, "duration_s": duration_s}
        self._write(run_id, **values, status=status, reason=reason)

    def add_epochs(self, run_id: str, epochs: Iterable[Mapping[str, Any]]) -> None:
        """Write a learning curve: columns of ``epochs`` for each epoch, in order."""
        with writing(self._engine) as session:
            session.add_all(
                EpochRow(run_id=run_id, epoch=number, **values)
                for number, values in enumerate(epochs, start=1)
            )

    def set_digits(self, run_id: str, evaluation: Evaluation) -> None:
        """Write the metrics per digit; a second call replaces them."""
        answers = [sum(column) for column in zip(*evaluation.confusion, strict=True)]
        with writing(self._engine) as session:
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

    def set_robustness(self, run_id: str, counts: Iterable[tuple[str, int, int]]) -> None:
        """Write transformations, each with correct and all images; they replace earlier ones."""
        with writing(self._engine) as session:
            session.execute(delete(Robustness).where(Robustness.run_id == run_id))
            session.add_all(
                Robustness(run_id=run_id, transformation=name, correct=correct, total=total)
                for name, correct, total in counts
            )

    def close_dead(self, run: Run, status: Status, reason: str, **values: Any) -> bool:
        """Give the row of a dead run its final status.

        Args:
            run: The row as it was when the run was found dead.
            status: A terminal one.
            reason: Why, in words.
            **values: Other columns.

        Returns:
            False if it has changed since: the run renewed its lease, or another process closed it.
        """
        same = (Run.status == Status.RUNNING) & (Run.lease_expires_at == run.lease_expires_at)
        values |= {"status": status, "reason": reason, "finished_at": datetime.now(UTC)}
        return self._update(run.run_id, same, values)

    def get(self, run_id: str) -> Run:
        """Read one row.

        Raises:
            RunNotFoundError: If it does not exist.
        """
        with reading(self._engine) as session:
            row = session.get(Run, run_id)
        if row is None:
            raise RunNotFoundError(
                f"expected the id of a run, received {run_id!r}; `digits history` lists them"
            )
        return row

    def of_flow_run(self, flow_run_id: str) -> Run | None:
        """Read the newest row of a Prefect flow run; None if it has none."""
        rows = select(Run).where(Run.flow_run_id == flow_run_id).order_by(Run.started_at.desc())
        with reading(self._engine) as session:
            return session.scalars(rows.limit(1)).first()

    def newest(
        self,
        limit: int | None,
        *,
        name: str | None = None,
        status: Status | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Run]:
        """Read the newest rows, newest first.

        Args:
            limit: At most this many; None reads all.
            name: Only runs kept under this name.
            status: Only runs with this status.
            since: Only runs started then or later; aware.
            until: Only runs started before; aware.
        """
        rows = select(Run).order_by(Run.started_at.desc(), Run.run_id.desc()).limit(limit)
        if name is not None:
            rows = rows.where(Run.dataset == name)
        if status is not None:
            rows = rows.where(Run.status == status)
        if since is not None:
            rows = rows.where(Run.started_at >= since)
        if until is not None:
            rows = rows.where(Run.started_at < until)
        with reading(self._engine) as session:
            return session.scalars(rows).all()

    def accepted(self, name: str, data_digest: str, since: datetime) -> bool:
        """Whether a person accepted a change for a run on this data that was rejected all the same.

        Args:
            name: Kept under this name.
            data_digest: SHA-256 of its images and labels.
            since: Only runs started then or later; aware.
        """
        rows = select(Run.run_id).where(
            Run.dataset == name,
            Run.started_at >= since,
            Run.data_digest == data_digest,
            Run.accept_change.is_(True),
            Run.status == Status.REJECTED,
        )
        with reading(self._engine) as session:
            return session.scalars(rows.limit(1)).first() is not None

    def names(self) -> Sequence[str]:
        """Read the names under which there are runs, in order."""
        with reading(self._engine) as session:
            return session.scalars(select(Run.dataset).distinct().order_by(Run.dataset)).all()

    def running(self) -> Sequence[Run]:
        """Read the rows without a final status."""
        with reading(self._engine) as session:
            return session.scalars(select(Run).where(Run.status == Status.RUNNING)).all()

    def epochs_of(self, run_id: str) -> Sequence[EpochRow]:
        """Read a learning curve, first epoch first."""
        rows = select(EpochRow).where(EpochRow.run_id == run_id).order_by(EpochRow.epoch)
        with reading(self._engine) as session:
            return session.scalars(rows).all()

    def digits_of(self, run_id: str) -> Sequence[DigitMetric]:
        """Read a run's metrics per digit, 0 to 9."""
        rows = select(DigitMetric).where(DigitMetric.run_id == run_id).order_by(DigitMetric.digit)
        with reading(self._engine) as session:
            return session.scalars(rows).all()

    def robustness_of(self, run_id: str) -> Sequence[Robustness]:
        """Read a run's counts on transformed test images, by name."""
        rows = select(Robustness).where(Robustness.run_id == run_id)
        with reading(self._engine) as session:
            return session.scalars(rows.order_by(Robustness.transformation)).all()

    def _write(self, run_id: str, **values: Any) -> None:
        if not self._update(run_id, Run.status == Status.RUNNING, values):
            status = self.get(run_id).status
            raise RunClosedError(f"expected run {run_id} to be running, found it {status}")

    def _update(self, run_id: str, where: ColumnElement[bool], values: dict[str, Any]) -> bool:
        rows = update(Run).where(Run.run_id == run_id, where).values(values)
        with writing(self._engine) as session:
            return session.scalars(rows.returning(Run.run_id)).first() is not None
