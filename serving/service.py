"""The state shared by all requests: champion, corrections, and threads for slow work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.bounds import hold
from serving.champion import ChampionWatcher
from serving.metrics import Metrics
from serving.normalise import normalise, read_image
from serving.schemas import Prediction, Predictions, StoredCorrection

if TYPE_CHECKING:
    from storage.tables.corrections import Corrections

T = TypeVar("T")

# Images being decoded and corrections being written, or waiting for a thread.
MAX_WAITING = 32


class Service:
    """Predicts, and stores corrections.

    Args:
        watcher: Keeps the champion loaded.
        corrections: Opens the table of corrections; called in the thread that writes them.
        token: The token that clients must send; None if they need none.
    """

    def __init__(
        self,
        watcher: ChampionWatcher,
        corrections: Callable[[], Corrections],
        token: str | None,
    ) -> None:
        self.watcher = watcher
        self.token = token
        self.metrics = Metrics(watcher)
        self._corrections = corrections
        self._slots = asyncio.Semaphore(MAX_WAITING)
        self._decoders = ThreadPoolExecutor(2, "decode")
        self._writer = ThreadPoolExecutor(1, "write")

    def predict(self, *images: NDArray[np.uint8]) -> Predictions:
        """Predict images, all with the same version.

        Args:
            images: uint8, each of shape (28, 28); 0 is paper, 255 is ink.
        """
        champion = self.watcher.champion
        version = champion.pointer.version
        predictions = []
        for image in images:
            prediction = champion.predict(image)
            self.metrics.count_prediction(version, prediction)
            predictions.append(Prediction.model_construct(**prediction))
        return Predictions.model_construct(version=version, predictions=predictions)

    async def decode(self, content: bytes) -> NDArray[np.uint8]:
        """Decode an image file to the model's input: uint8, shape (28, 28).

        Raises:
            ImageError: If it is not an image, or shows no digit.
        """
        return await self._run(self._decoders, lambda: normalise(read_image(content)))

    async def correct(self, image: NDArray[np.uint8], label: int, actor: str) -> StoredCorrection:
        """Store a correction, with the champion's prediction for the image.

        Raises:
            ImageError: If the image has a single shade.
            DatabaseError: If it cannot be stored.
        """
        champion = self.watcher.champion
        version = champion.pointer.version
        predicted = champion.predict(image)["digit"]
        (digest,) = await self._run(
            self._writer,
            lambda: self._corrections().add(
                image[None], [label], actor=actor, predicted=predicted, version=version
            ),
        )
        self.metrics.corrections.inc()
        return StoredCorrection(digest=digest, label=label, predicted=predicted, version=version)

    async def revoke(self, digest: str) -> None:
        """Revoke a correction.

        Raises:
            CorrectionNotFoundError: If no active correction has this digest.
            DatabaseError: If the database cannot be written.
        """
        await self._run(self._writer, lambda: self._corrections().revoke(digest))

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        """Run slow work in a thread; 503 if too much of it waits already."""
        async with hold(self._slots):
            return await asyncio.get_running_loop().run_in_executor(threads, work)
