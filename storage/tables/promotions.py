"""The table of promotions: the history of every store's pointer, for who asks in SQL."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from storage.models.history import History
from storage.tables.database import explained
from storage.tables.schema import Promotion

COLUMNS = {column.key for column in Promotion.__table__.columns}


class Promotions:
    """Reads and writes the table ``promotions``.

    Args:
        engine: From ``open_database``.

    Every method raises DatabaseError if the database cannot be read or written.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def mend(self, dataset: str, history: History) -> None:
        """Insert the swaps that the table does not hold: those since the last call, as a rule.

        The store's own history comes first, and works without a database; a crash or a
        database that could not be reached in between leaves nothing out.
        """
        with explained(self._engine.url), Session(self._engine) as session, session.begin():
            held = set(session.execute(self._keys(dataset)).tuples())
            session.add_all(
                Promotion(
                    dataset=dataset, **{k: v for k, v in asdict(swap).items() if k in COLUMNS}
                )
                for swap in history.swaps
                if (swap.generation, swap.version) not in held
            )

    def of(self, dataset: str) -> Sequence[Promotion]:
        """Read the swaps of a dataset's pointer, oldest first."""
        rows = select(Promotion).where(Promotion.dataset == dataset).order_by(Promotion.generation)
        reading = self._engine.execution_options(readonly=True)
        with explained(self._engine.url), Session(reading) as session:
            return session.scalars(rows).all()

    @staticmethod
    def _keys(dataset: str) -> Select[tuple[int, str]]:
        return select(Promotion.generation, Promotion.version).where(Promotion.dataset == dataset)
