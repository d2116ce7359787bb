"""Reading the table of runs, and what belongs to a run."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Engine, select

from storage.errors import RunNotFoundError
from storage.records import Status
from storage.tables.database import reading
from storage.tables.schema import DigitMetric, EpochRow, Run


def has_expired() -> ColumnElement[bool]:
    """Whether a row belongs to a dead run: still running, with an expired lease."""
    return (Run.status == Status.RUNNING) & (Run.lease_expires_at < datetime.now(UTC))


class RunReader:
    """Reads runs, their learning curves and their metrics per digit.

    Args:
        engine: From ``open_database``.

    Every method raises DatabaseError if the database cannot be read.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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
            since: Only runs started at this time or later; aware.
            until: Only runs started before this time; aware.
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

    def expired(self) -> Sequence[Run]:
        """Read the rows of dead runs: still running, with an expired lease."""
        with reading(self._engine) as session:
            return session.scalars(select(Run).where(has_expired())).all()

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
