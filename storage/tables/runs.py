"""Writing the table of runs: one row per run, from before training to its final status."""

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, func, select, update

from storage.errors import RunClosedError
from storage.recipe import Recipe
from storage.records import Evaluation, Status
from storage.tables.database import writing
from storage.tables.run_reader import RunReader, has_expired
from storage.tables.schema import DigitMetric, EpochRow, Run


class Runs(RunReader):
    """Reads and writes the table ``runs``.

    Args:
        engine: From ``open_database``.
        lease_s: Seconds without a heartbeat after which a run counts as lost.

    Every method raises DatabaseError if the database cannot be read or written.
    """

    def __init__(self, engine: Engine, lease_s: float) -> None:
        super().__init__(engine)
        self._lease = timedelta(seconds=lease_s)

    def check_writable(self) -> None:
        """Check that rows can be written, before anything else is started."""
        with writing(self._engine) as session:
            session.connection()

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

    def add_epochs(self, run_id: str, epochs: Iterable[tuple[float, float, float]]) -> None:
        """Write a learning curve: loss, accuracy and seconds of each epoch, in order."""
        with writing(self._engine) as session:
            session.add_all(
                EpochRow(
                    run_id=run_id, epoch=number, loss=loss, accuracy=accuracy, duration_s=seconds
                )
                for number, (loss, accuracy, seconds) in enumerate(epochs, start=1)
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

    def close_expired(self, run_id: str, status: Status, reason: str, **values: Any) -> bool:
        """Give the row of a dead run its final status.

        Returns:
            False if the run is not dead: it renewed its lease, or another process closed it.
        """
        dead = update(Run).where(Run.run_id == run_id, has_expired()).returning(Run.run_id)
        values |= {"status": status, "reason": reason, "finished_at": datetime.now(UTC)}
        with writing(self._engine) as session:
            return session.scalars(dead.values(values)).first() is not None

    def _write(self, run_id: str, **values: Any) -> None:
        running = update(Run).where(Run.run_id == run_id, Run.status == Status.RUNNING)
        with writing(self._engine) as session:
            found = session.scalars(running.values(values).returning(Run.run_id)).first()
        if found is None:
            status = self.get(run_id).status
            why = "; it sent no heartbeat within DIGITS_LEASE_S" if status == Status.LOST else ""
            raise RunClosedError(f"expected run {run_id} to be running, found it {status}{why}")
