"""The table of corrections: images, and the digits that people say they show."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select

from storage.errors import CorrectionNotFoundError, ImageError
from storage.tables.database import reading, writing
from storage.tables.schema import Correction


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
        labels: Sequence[int],
        *,
        actor: str,
        predicted: int | None = None,
        version: str | None = None,
    ) -> list[str]:
        """Store corrections, all or none of them.

        Correcting the same image again replaces its label.

        Args:
            images: uint8, shape (n, 28, 28); 0 is paper, 255 is ink.
            labels: n correct labels, 0 to 9.
            actor: Who corrects them.
            predicted: The model's answer, 0 to 9; None keeps the answer stored earlier.
            version: The model that gave it.

        Returns:
            The SHA-256 of each image, hexadecimal; it identifies the correction.

        Raises:
            ImageError: If all pixels of an image are equal.
        """
        if any(image.min() == image.max() for image in images):
            raise ImageError("expected an image of a digit, received a blank image")
        now = datetime.now(UTC)
        answer = {} if predicted is None else {"predicted": predicted, "version": version}
        digests = []
        with writing(self._engine) as session:
            for image, label in zip(images, labels, strict=True):
                content = image.tobytes()
                digests.append(hashlib.sha256(content).hexdigest())
                session.merge(
                    Correction(
                        dataset=self.name,
                        digest=digests[-1],
                        image=content,
                        label=int(label),
                        **answer,
                        corrected_at=now,
                        actor=actor,
                        revoked_at=None,
                    )
                )
        return digests

    def revoke(self, digest: str) -> str:
        """Revoke a correction: its row stays, but later runs do not train on it.

        Args:
            digest: The image's digest, or enough leading characters to be unique.

        Returns:
            The full digest.

        Raises:
            CorrectionNotFoundError: If no correction matches, or more than one does.
        """
        rows = select(Correction).where(
            Correction.dataset == self.name,
            Correction.digest.startswith(digest, autoescape=True),
            Correction.revoked_at.is_(None),
        )
        with writing(self._engine) as session:
            found = session.scalars(rows.limit(2)).all()
            if len(found) != 1 or not digest:
                matches = "several match" if found else "no match"
                raise CorrectionNotFoundError(
                    f"expected the digest of a correction of {self.name}, received {digest!r}"
                    f" ({matches}); `digits corrections list` shows them"
                )
            found[0].revoked_at = datetime.now(UTC)
            return found[0].digest

    def all(self, *, revoked: bool = False) -> Sequence[Correction]:
        """Read the corrections, oldest first; revoked ones only on request."""
        rows = select(Correction).where(Correction.dataset == self.name)
        if not revoked:
            rows = rows.where(Correction.revoked_at.is_(None))
        with reading(self._engine) as session:
            return session.scalars(rows.order_by(Correction.corrected_at, Correction.digest)).all()
