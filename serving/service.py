"""The state shared by all requests: champion, corrections, and threads for slow work."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.bounds import JSON, hold
from serving.champion import ChampionWatcher
from serving.metrics import Metrics
from serving.normalise import FoundDigit, find_digits, read_image
from serving.schemas import StoredCorrection
from storage.errors import ImageError

if TYPE_CHECKING:
    from storage.tables.corrections import Corrections

T = TypeVar("T")

# Images being decoded and corrections being written, or waiting for a thread.
MAX_WAITING = 32
# A data URL, or base64.
TEXT = re.compile(rb"\s*\"?(data:|[A-Za-z0-9+/]{60})")


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

    def predict(self, *images: NDArray[np.uint8]) -> dict[str, Any]:
        """Predict images, all with the same version.

        Args:
            images: uint8, each of shape (28, 28); 0 is paper, 255 is ink.

        Returns:
            JSON values of the schema Predictions.
        """
        champion = self.watcher.champion
        version = champion.pointer.version
        predictions = []
        for image in images:
            prediction = champion.predict(image)
            self.metrics.count_prediction(version, prediction)
            predictions.append(prediction)
        return {"version": version, "predictions": predictions}

    async def read(self, content: bytes) -> dict[str, Any]:
        """Predict the digits in an image file, from left to right.

        Returns:
            JSON values of the schema Predictions.

        Raises:
            ImageError: If it is not an image, or shows no digit.
        """
        found = await self._run(self._decoders, lambda: _find(content))
        answer = self.predict(*(digit.image for digit in found))
        for digit, prediction in zip(found, answer["predictions"], strict=True):
            prediction["box"] = digit.box._asdict()
            prediction["image"] = digit.image.tolist()
        text = "".join(str(prediction["digit"]) for prediction in answer["predictions"])
        return {**answer, "text": text}

    async def correct(
        self, image: NDArray[np.uint8], label: int | None, actor: str
    ) -> StoredCorrection:
        """Store a correction, with the champion's prediction for the image.

        Args:
            image: uint8, shape (28, 28); 0 is paper, 255 is ink.
            label: The right digit, 0 to 9; None if it is not a digit.
            actor: Who corrects it.

        Raises:
            ImageError: If the image has a single shade.
            DatabaseError: If it cannot be stored.
        """
        champion = self.watcher.champion
        version = champion.pointer.version
        predicted = champion.predict(image)["digit"]

        def store() -> StoredCorrection:
            table = self._corrections()
            (digest,) = table.add(
                image[None], [label], actor=actor, predicted=predicted, version=version
            )
            return StoredCorrection.model_validate(table.get(digest))

        stored = await self._run(self._writer, store)
        self.metrics.corrections.inc()
        return stored

    async def correction(self, digest: str) -> StoredCorrection:
        """Read a correction, revoked or not.

        Raises:
            CorrectionNotFoundError: If no correction has this digest.
            DatabaseError: If the database cannot be read.
        """
        return await self._run(
            self._writer, lambda: StoredCorrection.model_validate(self._corrections().get(digest))
        )

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


def _find(content: bytes) -> Sequence[FoundDigit]:
    if TEXT.match(content):
        raise ImageError(
            "expected the bytes of an image file as the body, received text; decode base64 first"
            " (in a browser, send what canvas.toBlob gives, not canvas.toDataURL)"
        )
    if content.lstrip()[:1] in {b"{", b"["}:
        raise ImageError(
            f"expected an image file, or JSON with the Content-Type {JSON},"
            " received JSON with another Content-Type"
        )
    return find_digits(read_image(content))
