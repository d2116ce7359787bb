"""The table of promotions: the swap history of every store, for SQL queries."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Engine, select

from storage.models.history import History
from storage.tables.database import reading, writing
from storage.tables.schema import Promotion

COLUMNS = {column.key for column in Promotion.__table__.columns}


class Promotions:
    """Reads and writes the table ``promotions``.

    Every method raises DatabaseError if the database cannot be read or written.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def sync(self, name: str, history: History) -> None:
        """Insert the swaps that the table lacks.

        The store's own history is written first and needs no database. Swaps made while the
        database was down, or just before a crash, are inserted by the next call.
        """
        keys = select(Promotion.generation, Promotion.version).where(Promotion.dataset == name)
        with writing(self._engine) as session:
            stored = set(session.execute(keys).tuples())
            session.add_all(
                Promotion(dataset=name, **{k: v for k, v in asdict(swap).items() if k in COLUMNS})
                for swap in history.swaps
                if (swap.generation, swap.version) not in stored
            )

    def of(self, name: str) -> Sequence[Promotion]:
        """Read the swaps of one pointer, oldest first."""
        rows = select(Promotion).where(Promotion.dataset == name).order_by(Promotion.generation)
        with reading(self._engine) as session:
            return session.scalars(rows).all()
