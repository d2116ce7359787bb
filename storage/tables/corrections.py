"""The table of corrections: images, and the digits that people say they show."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, Select, select
from sqlalchemy.orm import Session

from storage.errors import CorrectionNotFoundError, ImageError
from storage.tables.database import reading, writing
from storage.tables.schema import Correction

# What an earlier label was found to be does not hold for another label.
JUDGEMENT = (
    "asked_answer", "asked_probability", "held_at", "held_why", "accepted_at", "accepted_by",
    "learnt_by",
)  # fmt: skip


@dataclass(frozen=True)
class NewCorrection:
    """A correction to store.

    Args:
        image: uint8, shape (28, 28); 0 is paper, 255 is ink.
        label: The digit that it shows, 0 to 9; None if it is not a digit.
        actor: Who corrects it.
        corrected_at: When; aware.
    """

    image: NDArray[np.uint8]
    label: int | None
    actor: str
    corrected_at: datetime


class Corrections:
    """Reads and writes the corrections of one name's champion.

    Every method raises DatabaseError if the database cannot be read or written.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    def add(
        self,
        images: NDArray[np.uint8],
        labels: Sequence[int | None],
        *,
        actor: str,
        predicted: int | None = None,
        version: str | None = None,
    ) -> list[str]:
        """Store corrections, all or none of them.

        Correcting the same image again replaces its label.

        Args:
            images: uint8, shape (n, 28, 28); 0 is paper, 255 is ink.
            labels: n correct labels, 0 to 9; None for an image that is not a digit.
            actor: Who corrects them.
            predicted: The model's answer, 0 to 9; None keeps the answer stored earlier.
            version: The model that gave it.

        Returns:
            The SHA-256 of each image, hexadecimal; it identifies the correction.

        Raises:
            ImageError: If all pixels of an image are equal.
        """
        now = datetime.now(UTC)
        new = [NewCorrection(*pair, actor, now) for pair in zip(images, labels, strict=True)]
        answer = {} if predicted is None else {"predicted": predicted, "version": version}
        return self._store(new, answer, overwrite=True)

    def restore(self, new: Sequence[NewCorrection], *, overwrite: bool) -> list[str]:
        """Store corrections from a file, all or none of them.

        Args:
            new: The corrections.
            overwrite: Replace those of the same images, revoked ones too; otherwise they stay.

        Returns:
            The digests of those that were stored.

        Raises:
            ImageError: If all pixels of an image are equal.
        """
        return self._store(new, {}, overwrite=overwrite)

    def revoke(self, digest: str) -> str:
        """Revoke a correction: its row stays, but later runs do not train on it.

        Args:
            digest: The image's digest, or enough leading characters to be unique.

        Returns:
            The full digest.

        Raises:
            CorrectionNotFoundError: If no correction matches, or more than one does.
        """
        with writing(self._engine) as session:
            row = self._find(session, digest, self._active())
            row.revoked_at = datetime.now(UTC)
            return row.digest

    def accept(self, digests: Sequence[str], *, by: str) -> list[str]:
        """Accept corrections, all or none of them: runs learn from them, held or not.

        Args:
            digests: Of the images, or enough leading characters to be unique.
            by: Who accepts them.

        Returns:
            The full digests.

        Raises:
            CorrectionNotFoundError: If no correction matches one of them, or more than one does.
        """
        with writing(self._engine) as session:
            rows = [self._find(session, digest, self._active()) for digest in digests]
            return [_accept(row, by) for row in rows]

    def accept_actor(self, actor: str, *, by: str) -> list[str]:
        """Accept all corrections of one person that are held.

        Returns:
            Their digests.

        Raises:
            CorrectionNotFoundError: If none of them is held.
        """
        with writing(self._engine) as session:
            rows = session.scalars(self._active()).all()
            held = [row for row in rows if row.held]
            if found := [_accept(row, by) for row in held if row.actor == actor]:
                return found
        actors = ", ".join(sorted({row.actor for row in held})) or "nobody"
        raise CorrectionNotFoundError(
            f"expected a person whose corrections of {self.name} are held ({actors}),"
            f" received {actor!r}; `digits corrections --held` lists them"
        )

    def hold(self, answers: Mapping[str, tuple[int, float]], reasons: Mapping[str, str]) -> None:
        """Write what a run found.

        Args:
            answers: What the champion answered, and the probability in [0, 1], by digest.
            reasons: Why the correction is held, by digest.
        """
        now = datetime.now(UTC)
        with writing(self._engine) as session:
            for row in session.scalars(self._active()):
                if row.digest in answers:
                    row.asked_answer, row.asked_probability = answers[row.digest]
                if row.digest in reasons and row.held_at is None:
                    row.held_at, row.held_why = now, reasons[row.digest]

    def learn(self, run_id: str, rows: Sequence[Correction]) -> None:
        """Write that a promoted run trained on corrections, unless an earlier one did.

        ``rows`` are as the run read them; one whose label changed since is left as it is.
        """
        labels = {row.digest: row.label for row in rows}
        with writing(self._engine) as session:
            for row in session.scalars(self._active().where(Correction.learnt_by.is_(None))):
                if row.digest in labels and row.label == labels[row.digest]:
                    row.learnt_by = run_id

    def get(self, digest: str) -> Correction:
        """Read one correction, revoked or not.

        Args:
            digest: The image's digest, or enough leading characters to be unique.

        Raises:
            CorrectionNotFoundError: If no correction matches, or more than one does.
        """
        with reading(self._engine) as session:
            return self._find(session, digest, self._select())

    def all(self, *, revoked: bool = False) -> Sequence[Correction]:
        """Read the corrections, oldest first; revoked ones only on request."""
        rows = self._select() if revoked else self._active()
        with reading(self._engine) as session:
            return session.scalars(rows.order_by(Correction.corrected_at, Correction.digest)).all()

    def _select(self) -> Select[tuple[Correction]]:
        return select(Correction).where(Correction.dataset == self.name)

    def _active(self) -> Select[tuple[Correction]]:
        return self._select().where(Correction.revoked_at.is_(None))

    def _find(self, session: Session, digest: str, rows: Select[tuple[Correction]]) -> Correction:
        matching = rows.where(Correction.digest.startswith(digest, autoescape=True))
        found = session.scalars(matching.limit(2)).all()
        if len(found) != 1 or not digest:
            matches = "several match" if found else "no match"
            raise CorrectionNotFoundError(
                f"expected the digest of a correction of {self.name}, received {digest!r}"
                f" ({matches}); `digits corrections list` shows them"
            )
        return found[0]

    def _store(
        self, new: Sequence[NewCorrection], answer: Mapping[str, object], *, overwrite: bool
    ) -> list[str]:
        if any(given.image.min() == given.image.max() for given in new):
            raise ImageError("expected an image of a digit, received a blank image")
        stored = []
        with writing(self._engine) as session:
            for given in new:
                content = given.image.tobytes()
                digest = hashlib.sha256(content).hexdigest()
                row = session.get(Correction, (self.name, digest))
                if row is None:
                    row = Correction(dataset=self.name, digest=digest, image=content)
                    session.add(row)
                elif not overwrite:
                    continue
                elif row.label != given.label:
                    _set(row, dict.fromkeys(JUDGEMENT))
                values = {"label": given.label, "actor": given.actor, "revoked_at": None}
                _set(row, {**values, "corrected_at": given.corrected_at, **answer})
                stored.append(digest)
        return stored


def _set(row: Correction, values: Mapping[str, object]) -> None:
    for column, value in values.items():
        setattr(row, column, value)


def _accept(row: Correction, by: str) -> str:
    row.accepted_at, row.accepted_by = datetime.now(UTC), by
    return row.digest
