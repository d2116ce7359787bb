"""The tables, as SQLAlchemy maps them. Alembic's migrations make them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, Index, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

REVISION = "0004"
"""The newest migration; a test holds it against Alembic's head."""


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC; SQLite, which has no zones, holds it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn any aware datetime into UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware datetime in UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _index_where(condition: str, name: str, *columns: str) -> Index:
    where = text(condition)
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


class Base(DeclarativeBase):
    """Base of the mapped tables."""

    def as_dict(self) -> dict[str, Any]:
        """The row as plain values, column by column; datetimes stay datetimes."""
        return {column.key: getattr(self, column.key) for column in self.__table__.columns}


class Run(Base):
    """One execution of the flow ``retrain``. ``docs/metrics.md`` says what each column means."""

    __tablename__ = "runs"
    __table_args__ = (
        Index("runs_by_dataset", "dataset", "started_at"),
        Index("runs_by_start", "started_at"),
        Index("runs_by_test_set", "test_digest"),
        _index_where("test_total > 0", "measured_by_accuracy", "dataset", "test_accuracy"),
        _index_where(
            "test_accuracy IS NOT NULL",
            "measured_by_start",
            "dataset",
            "started_at",
            "test_accuracy",
            "test_loss",
        ),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    dataset: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(UTCDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    lease_expires_at: Mapped[datetime] = mapped_column(UTCDateTime)
    duration_s: Mapped[float | None]
    test_loss: Mapped[float | None]
    test_accuracy: Mapped[float | None]
    test_correct: Mapped[int | None]
    test_total: Mapped[int | None]
    accuracy_low: Mapped[float | None]
    accuracy_high: Mapped[float | None]
    test_digest: Mapped[str | None]
    test_uses: Mapped[int | None]
    champion_version: Mapped[str | None]
    champion_correct: Mapped[int | None]
    only_challenger_correct: Mapped[int | None]
    only_champion_correct: Mapped[int | None]
    min_accuracy: Mapped[float]
    confident: Mapped[bool | None]
    min_recall: Mapped[float | None]
    champion_rule: Mapped[str | None]
    margin: Mapped[int | None]
    max_drift: Mapped[float | None]
    reason: Mapped[str | None] = mapped_column(Text)
    rules: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    generation: Mapped[int | None]
    architecture: Mapped[str]
    epochs: Mapped[int]
    batch_size: Mapped[int]
    learning_rate: Mapped[float]
    seed: Mapped[int] = mapped_column(BigInteger)
    train_loss: Mapped[float | None]
    train_accuracy: Mapped[float | None]
    train_total: Mapped[int | None]
    fit_s: Mapped[float | None]
    source: Mapped[str]
    data_digest: Mapped[str | None]
    duplicates: Mapped[int | None]
    pixel_drift: Mapped[float | None]
    label_drift: Mapped[float | None]
    corrections: Mapped[bool | None]
    corrections_share: Mapped[float | None]
    corrections_used: Mapped[int | None]
    corrections_dropped: Mapped[int | None]
    corrections_digest: Mapped[str | None]
    field_total: Mapped[int | None]
    field_correct: Mapped[int | None]
    champion_field_correct: Mapped[int | None]
    weights_digest: Mapped[str | None]
    code_commit: Mapped[str | None]
    code_dirty: Mapped[bool | None]
    versions: Mapped[dict[str, str]] = mapped_column(JSON)
    host: Mapped[str]
    flow_run_id: Mapped[str | None]


class Promotion(Base):
    """One swap of a dataset's pointer. ``docs/metrics.md`` says what each column means."""

    __tablename__ = "promotions"
    __table_args__ = (Index("promotions_by_time", "dataset", "swapped_at"),)

    dataset: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    predecessor: Mapped[str | None]
    kind: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str] = mapped_column(Text)
    swapped_at: Mapped[datetime] = mapped_column(UTCDateTime)


class Correction(Base):
    """An image and the digit that a person says it shows. ``docs/metrics.md`` says more."""

    __tablename__ = "corrections"

    dataset: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    image: Mapped[bytes]
    label: Mapped[int]
    predicted: Mapped[int | None]
    version: Mapped[str | None]
    corrected_at: Mapped[datetime] = mapped_column(UTCDateTime)
    actor: Mapped[str]
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class EpochRow(Base):
    """One point of a run's learning curve."""

    __tablename__ = "epochs"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    loss: Mapped[float]
    accuracy: Mapped[float]
    duration_s: Mapped[float]


class DigitMetric(Base):
    """What a run's model does with the test images of one digit."""

    __tablename__ = "digit_metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.run_id"), primary_key=True)
    digit: Mapped[int] = mapped_column(primary_key=True)
    images: Mapped[int]
    correct: Mapped[int]
    answers: Mapped[int]
    recall: Mapped[float | None]
    precision: Mapped[float | None]
