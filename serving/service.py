"""What the server's answers share: the champion, the corrections, and threads for slow work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving import wire
from serving.answers import answer
from serving.bounds import MAX_WAITING, Places
from serving.champion import Champion, Follower
from serving.metrics import Metrics
from serving.normalise import normalise, read_image

if TYPE_CHECKING:
    from storage.tables.corrections import Corrections

P = ParamSpec("P")
T = TypeVar("T")


class Service:
    """One server's.

    Args:
        follower: Keeps the champion that answers.
        corrections: Gives where they are kept; called in the thread that writes them.
        token: What callers have to name; None means nothing.
    """

    def __init__(
        self, follower: Follower, corrections: Callable[[], Corrections], token: str | None
    ) -> None:
        self.follower = follower
        self.token = token
        self.metrics = Metrics(follower)
        self._corrections = corrections
        self._places = Places(MAX_WAITING)
        self._decoders = ThreadPoolExecutor(2, "decode")
        self._writer = ThreadPoolExecutor(1, "write")

    def predict(self, *images: NDArray[np.uint8]) -> wire.Predictions:
        """Answer images, all by the same version.

        Args:
            images: uint8, each of shape (28, 28); 0 is paper, 255 is ink.
        """
        champion = self.follower.champion
        predictions = []
        for image in images:
            found = answer(champion.classifier, image)
            self.metrics.predicted(champion.pointer.version, found)
            predictions.append(wire.Prediction.model_construct(**found))
        return wire.Predictions.model_construct(
            version=champion.pointer.version, predictions=predictions
        )

    async def decode(self, content: bytes) -> NDArray[np.uint8]:
        """Make an image file what the model takes: uint8, shape (28, 28).

        Raises:
            ImageError: If it is none, or has no digit on it.
        """
        return await self._in(self._decoders, lambda: normalise(read_image(content)))

    async def correct(self, image: NDArray[np.uint8], label: int, actor: str) -> wire.Kept:
        """Keep a correction, with what the champion says to the image.

        Raises:
            ImageError: If the image is of one shade throughout.
            DatabaseError: If it cannot be kept.
        """
        champion: Champion = self.follower.champion
        said, version = answer(champion.classifier, image)["digit"], champion.pointer.version
        (digest,) = await self._in(
            self._writer,
            lambda: self._corrections().add(
                image[None], [label], actor=actor, predicted=said, version=version
            ),
        )
        self.metrics.corrections.inc()
        return wire.Kept(digest=digest, label=label, predicted=said, version=version)

    async def revoke(self, digest: str) -> None:
        """Take a correction back.

        Raises:
            CorrectionNotFoundError: If there is none that stands.
            DatabaseError: If the database cannot be written.
        """
        await self._in(self._writer, lambda: self._corrections().revoke(digest))

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Do what takes longer in a thread; 503 if too many wait for one."""
        with self._places.one():
            return await asyncio.get_running_loop().run_in_executor(threads, work)
