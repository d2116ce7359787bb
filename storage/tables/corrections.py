"""The table of corrections: images, and the digits that people say they show."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from storage.errors import CorrectionNotFoundError, ImageError
from storage.tables.database import explained
from storage.tables.schema import Correction


class Corrections:
    """Reads and writes the table ``corrections``, of one dataset.

    Args:
        engine: From ``open_database``.
        dataset: The dataset's name.

    Every method raises DatabaseError if the database cannot be read or written.
    """

    def __init__(self, engine: Engine, dataset: str) -> None:
        self._engine = engine
        self.dataset = dataset

    def add(
        self,
        images: NDArray[np.uint8],
        labels: Sequence[int],
        *,
        actor: str,
        predicted: int | None = None,
        version: str | None = None,
    ) -> list[str]:
        """Keep what a person says that images show, all or none of them.

        The same image again is the same correction, with its last label.

        Args:
            images: uint8, shape (n, 28, 28); 0 is paper, 255 is ink.
            labels: n of them, 0 to 9.
            actor: Who says so.
            predicted: What a model said, 0 to 9.
            version: That model.

        Returns:
            Of each image the SHA-256, hexadecimal, by which its correction is known.

        Raises:
            ImageError: If an image is of one shade throughout.
        """
        if any(image.min() == image.max() for image in images):
            raise ImageError("expected a digit on the image, received one without any ink")
        now = datetime.now(UTC)
        # Who does not say what was predicted leaves what is known of it.
        said = {} if predicted is None else {"predicted": predicted, "version": version}
        digests = []
        with explained(self._engine.url), Session(self._engine) as session, session.begin():
            for image, label in zip(images, labels, strict=True):
                content = image.tobytes()
                digests.append(hashlib.sha256(content).hexdigest())
                session.merge(
                    Correction(
                        dataset=self.dataset,
                        digest=digests[-1],
                        image=content,
                        label=int(label),
                        **said,
                        corrected_at=now,
                        actor=actor,
                        revoked_at=None,
                    )
                )
        return digests

    def revoke(self, digest: str) -> str:
        """Take a correction back: its row stays, and is learnt from no longer.

        Args:
            digest: The image's, or so many of its first characters that no other has them.

        Returns:
            The whole digest.

        Raises:
            CorrectionNotFoundError: If there is none that stands, or more than one.
        """
        begins = Correction.digest.startswith(digest, autoescape=True)
        rows = select(Correction).where(
            Correction.dataset == self.dataset, begins, Correction.revoked_at.is_(None)
        )
        with explained(self._engine.url), Session(self._engine) as session, session.begin():
            found = session.scalars(rows.limit(2)).all()
            if len(found) != 1 or not digest:
                many = "more than one" if found else "none"
                raise CorrectionNotFoundError(
                    f"expected the digest of a correction of {self.dataset}, received {digest!r},"
                    f" which fits {many}; `digits corrections` lists them"
                )
            found[0].revoked_at = datetime.now(UTC)
            return found[0].digest

    def all(self, *, revoked: bool = False) -> Sequence[Correction]:
        """Read the corrections, oldest first; those that were revoked only if asked for."""
        rows = select(Correction).where(Correction.dataset == self.dataset)
        if not revoked:
            rows = rows.where(Correction.revoked_at.is_(None))
        reading = self._engine.execution_options(readonly=True)
        with explained(self._engine.url), Session(reading) as session:
            return session.scalars(rows.order_by(Correction.corrected_at, Correction.digest)).all()
