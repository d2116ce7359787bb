"""The tables and views of the metrics database: types, units and meanings, declared once.

Alembic's migrations create them. DataFrame types and the reference in docs/metrics.md are derived
from these declarations.
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

MIGRATIONS = Path(__file__).with_name("migrations")
REVISION = max(path.name[:4] for path in MIGRATIONS.glob("versions/[0-9]*_*.py"))
"""The newest migration, by its number."""

# One correction in this many is never trained on: those are the field set.
FIELD_SHARE = 5
# A champion contradicts a correction if it gives another digit at least this probability.
SURE = 0.9

# Units
DIGEST, SHARE, TIME = "SHA-256", "share, 0 to 1", "UTC"
IMAGES, NATS, SECONDS = "images", "nats", "s"


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite, which has no time zones, stores it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert any aware datetime to UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Base of the mapped tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own attribute
        datetime: UTCDateTime,
        list[dict[str, Any]]: JSON,
        dict[str, str]: JSON,
        dict[str, int]: JSON,
    }

    def as_dict(self) -> dict[str, Any]:
        """The row as plain values, column by column; datetimes stay datetimes."""
        return {column.key: getattr(self, column.key) for column in self.__table__.columns}


def _column(doc: str, unit: str = "", *args: Any, category: bool = False, **options: Any) -> Any:
    """A mapped column with its meaning and unit; a category has few different values."""
    return mapped_column(*args, doc=doc, info={"unit": unit, "category": category}, **options)


def _index_where(condition: str, name: str, *columns: str) -> Index:
    where = text(condition)
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


class Run(Base):
    """One execution of the flow ``retrain``."""

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

    run_id: Mapped[str] = _column(
        "identifies the run, its row and its model version; sorts by time", primary_key=True
    )
    status: Mapped[str] = _column(
        "`running`, then `promoted`, `rejected`, `failed`, `cancelled` or `lost`", category=True
    )
    dataset: Mapped[str] = _column(
        "the name under which runs and champions are kept (`--name`)", category=True
    )
    started_at: Mapped[datetime] = _column("when the row was created", TIME)
    night: Mapped[date | None] = _column(
        "the day on which it started, in the time zone of the schedule in `prefect.yaml`"
    )
    finished_at: Mapped[datetime | None] = _column(
        "when the run reached its final status; empty while running", TIME
    )
    lease_expires_at: Mapped[datetime] = _column(
        "extended by every heartbeat; once it has passed, a row whose process does not live on this"
        " machine is closed as `lost`",
        TIME,
    )
    duration_s: Mapped[float | None] = _column(
        "from `started_at` to `finished_at`; empty for `lost`", SECONDS
    )
    test_loss: Mapped[float | None] = _column(
        "mean categorical cross-entropy of the stored model on the test images (of the model in"
        " memory if the stored one could not be scored); empty if not finite",
        NATS,
    )
    test_accuracy: Mapped[float | None] = _column("`test_correct` / `test_total`", SHARE)
    test_correct: Mapped[int | None] = _column("test images classified correctly", IMAGES)
    test_total: Mapped[int | None] = _column("test images", IMAGES)
    accuracy_low: Mapped[float | None] = _column(
        "lower bound of the exact two-sided 95% interval of the accuracy (Clopper-Pearson)", SHARE
    )
    accuracy_high: Mapped[float | None] = _column("upper bound of the same interval", SHARE)
    calibration_error: Mapped[float | None] = _column(
        "expected calibration error of the stored model on the test images (15 bins): how far its"
        " probabilities are from the share of answers that are right",
        SHARE,
    )
    temperature: Mapped[float | None] = _column(
        "what the logarithms of the network's probabilities are divided by"
    )
    test_digest: Mapped[str | None] = _column("of the test images and labels", DIGEST)
    test_uses: Mapped[int | None] = _column(
        "runs decided on this test set so far, including this one"
    )
    champion_version: Mapped[str | None] = _column(
        "the champion that the run was compared with; empty if there was none"
    )
    champion_correct: Mapped[int | None] = _column(
        "test images that the champion classified correctly, scored in the same process", IMAGES
    )
    only_challenger_correct: Mapped[int | None] = _column(
        "test images that only this run's model classified correctly", IMAGES
    )
    only_champion_correct: Mapped[int | None] = _column(
        "test images that only the champion classified correctly", IMAGES
    )
    min_accuracy: Mapped[float] = _column("test accuracy required by the gate", SHARE)
    confident: Mapped[bool | None] = _column(
        "whether `accuracy_low` also had to reach `min_accuracy`"
    )
    min_recall: Mapped[float | None] = _column("recall required by the gate, per digit", SHARE)
    champion_rule: Mapped[str | None] = _column(
        "how the challenger must compare with the champion", category=True
    )
    margin: Mapped[int | None] = _column(
        "how far `non-inferior` lets the run fall behind the best champion so far", IMAGES
    )
    robust: Mapped[bool | None] = _column(
        "whether the gate's rule `robustness` applied: at most 1 point less than the champion on"
        " each transformation of which it has 97% right"
    )
    max_drift: Mapped[float | None] = _column("largest drift accepted by the data check", "0 to 1")
    accept_change: Mapped[bool | None] = _column(
        "whether a person accepted that the champion does far worse on this data than when it was"
        " promoted"
    )
    max_hours: Mapped[float | None] = _column(
        "when the run was to end as `failed`; a step other than training after a quarter of it", "h"
    )
    reason: Mapped[str | None] = _column(
        "why the run was promoted, rejected, failed, cancelled or lost", "", Text
    )
    rules: Mapped[list[dict[str, Any]] | None] = _column(
        "the gate's rules: `name`, `required`, `measured`, `passed`", "JSON"
    )
    generation: Mapped[int | None] = _column(
        "the pointer's generation after this promotion; empty unless promoted"
    )
    architecture: Mapped[str] = _column(
        "the network, or the `package.module:function` that builds it", category=True
    )
    epochs: Mapped[int] = _column(
        "passes over the training images, as requested or as `max_minutes` allowed"
    )
    max_minutes: Mapped[float | None] = _column(
        "the minutes given for the training, from which `epochs` was computed; 0 if not given",
        "min",
    )
    compute_dtype: Mapped[str | None] = _column(
        "what most layers were computed in while the network was trained, such as `bfloat16`; the"
        " served convnet is `float32` in any case",
        category=True,
    )
    batch_size: Mapped[int] = _column("per optimizer step", IMAGES)
    learning_rate: Mapped[float] = _column("step size of the optimizer")
    seed: Mapped[int] = _column(
        "determines the initial weights and the order of the images", "", BigInteger
    )
    train_loss: Mapped[float | None] = _column(
        "mean loss over the last epoch, while the weights were changing", NATS
    )
    train_accuracy: Mapped[float | None] = _column("mean accuracy over the same epoch", SHARE)
    train_total: Mapped[int | None] = _column("training images", IMAGES)
    fit_s: Mapped[float | None] = _column("duration of all epochs", SECONDS)
    validation_total: Mapped[int | None] = _column(
        "training images that were not trained on, for the choices made in training; empty if the"
        " network trains on all",
        IMAGES,
    )
    validation_accuracy: Mapped[float | None] = _column(
        "validation images that the calibrated model classified correctly", SHARE
    )
    validation_loss: Mapped[float | None] = _column(
        "mean categorical cross-entropy of the calibrated model on the validation images", NATS
    )
    validation_disturbed_loss: Mapped[float | None] = _column(
        "the same on five copies of the validation images, disturbed like the images trained on",
        NATS,
    )
    source: Mapped[str] = _column(
        "the data that was loaded (`--dataset`): its name, or a folder", category=True
    )
    data_digest: Mapped[str | None] = _column("of all images and labels", DIGEST)
    duplicates: Mapped[int | None] = _column(
        "images that occur more than once in the training set, or in the test set", IMAGES
    )
    pixel_drift: Mapped[float | None] = _column(
        "Jensen-Shannon distance (base 2) from the champion's training images: the larger of grey"
        " levels and ink positions",
        "0 to 1",
    )
    label_drift: Mapped[float | None] = _column("the same distance for the labels", "0 to 1")
    unlike_mnist: Mapped[str | None] = _column(
        "how the first training images of a name differ from MNIST's, such as mirrored or with"
        " other labels; empty if they do not, and in later runs",
        "",
        Text,
    )
    corrections: Mapped[bool | None] = _column("whether the run trained on corrections")
    corrections_share: Mapped[float | None] = _column(
        "largest share of an epoch's images that may be corrections", SHARE
    )
    corrections_used: Mapped[int | None] = _column("different corrections trained on", IMAGES)
    corrections_dropped: Mapped[int | None] = _column(
        "corrections not used: in the test set, or in the training set with another label", IMAGES
    )
    corrections_held: Mapped[int | None] = _column(
        "corrections not used because they are held until a person accepts them", IMAGES
    )
    held_actors: Mapped[dict[str, int] | None] = _column(
        "how many of the held corrections each person sent", "JSON"
    )
    corrections_digest: Mapped[str | None] = _column(
        "of the corrections trained on and the field set", DIGEST
    )
    field_total: Mapped[int | None] = _column(
        "size of the field set: corrections that are never trained on", IMAGES
    )
    field_correct: Mapped[int | None] = _column(
        "field set images that this run's model classified correctly", IMAGES
    )
    champion_field_correct: Mapped[int | None] = _column(
        "field set images that the champion classified correctly", IMAGES
    )
    not_digits: Mapped[int | None] = _column(
        "corrections that say that an image is not a digit; never trained on", IMAGES
    )
    not_digits_sure: Mapped[int | None] = _column(
        "of these, images for which this run's model gave a digit without being unsure", IMAGES
    )
    weights_digest: Mapped[str | None] = _column(
        "of the trained weights; the same recipe, data and machine give the same digest", DIGEST
    )
    code_commit: Mapped[str | None] = _column(
        "commit of this project; empty outside a git repository"
    )
    code_dirty: Mapped[bool | None] = _column("whether there were uncommitted changes")
    versions: Mapped[dict[str, str]] = _column(
        "of Python and of the libraries that affect results", "JSON"
    )
    host: Mapped[str] = _column("the machine that ran it", category=True)
    environment: Mapped[dict[str, str] | None] = _column(
        "the number of its processors, and the variables of TensorFlow and its libraries that were"
        " set, such as TF_ENABLE_ONEDNN_OPTS or OMP_NUM_THREADS",
        "JSON",
    )
    flow_run_id: Mapped[str | None] = _column("Prefect's id of the flow run")


class Promotion(Base):
    """One swap of a champion pointer."""

    __tablename__ = "promotions"
    __table_args__ = (Index("promotions_by_time", "dataset", "swapped_at"),)

    dataset: Mapped[str] = _column(
        "the name under which champions are kept", category=True, primary_key=True
    )
    generation: Mapped[int] = _column(
        "the pointer's generation after the swap; rises by one", primary_key=True
    )
    version: Mapped[str] = _column("the run whose model became the champion", primary_key=True)
    predecessor: Mapped[str | None] = _column("the champion before; empty for the first")
    kind: Mapped[str] = _column("`promotion` or `rollback`", category=True)
    actor: Mapped[str] = _column("`retrain`, or the user@host that rolled back")
    reason: Mapped[str] = _column("why", "", Text)
    swapped_at: Mapped[datetime] = _column("when", TIME)


class Correction(Base):
    """An image and the digit that a person says it shows, or that it shows none."""

    __tablename__ = "corrections"

    dataset: Mapped[str] = _column(
        "the name whose champion answered; only its runs use the correction",
        category=True,
        primary_key=True,
    )
    digest: Mapped[str] = _column(
        "of the image; identifies the correction", DIGEST, primary_key=True
    )
    image: Mapped[bytes] = _column("28 x 28 bytes, row by row: 0 is paper, 255 is ink")
    label: Mapped[int | None] = _column(
        "the digit that the person says it shows; empty if it is not a digit"
    )
    predicted: Mapped[int | None] = _column("the model's answer; empty if imported")
    version: Mapped[str | None] = _column("that model")
    corrected_at: Mapped[datetime] = _column("when", TIME)
    actor: Mapped[str] = _column("who corrected it: a name, user@host, or the client's address")
    revoked_at: Mapped[datetime | None] = _column("when it was revoked; empty otherwise", TIME)
    asked_answer: Mapped[int | None] = _column(
        "what the champion answered when a run first asked it about this correction"
    )
    asked_probability: Mapped[float | None] = _column("the probability it gave that answer", SHARE)
    held_at: Mapped[datetime | None] = _column(
        "when a run held it; runs do not learn from it unless it is accepted", TIME
    )
    held_why: Mapped[str | None] = _column("why", "", Text)
    accepted_at: Mapped[datetime | None] = _column(
        "when a person accepted it: it is not held, whatever a champion answers", TIME
    )
    accepted_by: Mapped[str | None] = _column("that person")
    learnt_by: Mapped[str | None] = _column(
        "the first promoted run that trained on it; empty if none did"
    )

    @property
    def held(self) -> bool:
        """Whether it waits for a person to accept it."""
        return self.held_at is not None and self.accepted_at is None

    @property
    def doubted(self) -> bool:
        """Whether the champion that was asked read another digit than the label."""
        return None not in (self.label, self.asked_answer) and self.asked_answer != self.label

    @property
    def contradicted(self) -> bool:
        """Whether that champion was sure, and no person has accepted the correction."""
        sure = (self.asked_probability or 0) >= SURE
        return self.doubted and sure and self.accepted_at is None

    @property
    def in_field_set(self) -> bool:
        """Whether it is never trained on: its digest decides, so this never changes."""
        return self.label is not None and int(self.digest, 16) % FIELD_SHARE == 0

    @property
    def state(self) -> str:
        """``revoked``, ``held``, ``measured``, ``learnt`` or ``kept``.

        ``measured`` ones are in the field set, or are not a digit: runs measure models on them.
        ``learnt_by`` names the version that learnt a ``learnt`` one. ``kept`` ones wait for a run.
        """
        if self.revoked_at:
            return "revoked"
        if self.held:
            return "held"
        if self.label is None or self.in_field_set:
            return "measured"
        return "learnt" if self.learnt_by else "kept"


class EpochRow(Base):
    """One point of a run's learning curve."""

    __tablename__ = "epochs"

    run_id: Mapped[str] = _column("the run", "", ForeignKey("runs.run_id"), primary_key=True)
    epoch: Mapped[int] = _column("starts at 1", primary_key=True)
    loss: Mapped[float] = _column(
        "mean over the training images; of a convnet, over what the augmentation made of them", NATS
    )
    accuracy: Mapped[float] = _column(
        "training images classified correctly, without those that became pictures of no digit",
        SHARE,
    )
    validation_loss: Mapped[float | None] = _column(
        "mean over the validation images after the epoch; empty if the network trains on all", NATS
    )
    validation_accuracy: Mapped[float | None] = _column(
        "validation images classified correctly after the epoch", SHARE
    )
    duration_s: Mapped[float] = _column("duration of the epoch", SECONDS)


class DigitMetric(Base):
    """How a run's model does on the test images of one digit."""

    __tablename__ = "digit_metrics"

    run_id: Mapped[str] = _column("the run", "", ForeignKey("runs.run_id"), primary_key=True)
    digit: Mapped[int] = _column("0 to 9", primary_key=True)
    images: Mapped[int] = _column("test images of this digit", IMAGES)
    correct: Mapped[int] = _column("test images of this digit classified correctly", IMAGES)
    answers: Mapped[int] = _column("test images classified as this digit", IMAGES)
    recall: Mapped[float | None] = _column("`correct` / `images`; empty without images", SHARE)
    precision: Mapped[float | None] = _column("`correct` / `answers`; empty without answers", SHARE)


class Robustness(Base):
    """How a run's model does on test images that were transformed in one way."""

    __tablename__ = "robustness"

    run_id: Mapped[str] = _column("the run", "", ForeignKey("runs.run_id"), primary_key=True)
    transformation: Mapped[str] = _column(
        "`moved`, `smaller`, `turned`, `slanted`, `thin`, `thick`, `blurred`, `faint` or `noise`",
        category=True,
        primary_key=True,
    )
    correct: Mapped[int] = _column("transformed images classified correctly", IMAGES)
    total: Mapped[int] = _column("transformed images", IMAGES)


# A view's other columns are the tables' columns of the same names.
VIEWS = MetaData()
Table(
    "leaderboard",
    VIEWS,
    Column("place", Integer, doc="1 for the most accurate run of its dataset"),
    info={"row": "measured run on its dataset's newest test set"},
)
Table(
    "nightly",
    VIEWS,
    Column("accuracy_change", Float, doc="since the night before; empty on another test set"),
    Column("loss_change", Float, doc="since the night before; empty on another test set"),
    Column("new_test_set", Boolean, doc="whether the night before had another test set"),
    info={"row": "night and dataset: the last measured run of the night"},
)
Table(
    "champions",
    VIEWS,
    Column("in_use_from", UTCDateTime, doc="when it became the champion"),
    Column("in_use_until", UTCDateTime, doc="empty for the current champion"),
    info={"row": "swap of the pointer"},
)
