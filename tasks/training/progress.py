"""Progress of the training: lines in the log, and a progress bar in the Prefect UI."""

import logging
import time
from collections.abc import Callable
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.runtime import flow_run

# Seconds between two lines within an epoch, and between two moves of the bar.
LINE_EVERY_S, MOVE_EVERY_S = 15.0, 3.0

log = logging.getLogger("digits")


class Progress:
    """Says how far a training is, and how many seconds are left.

    Args:
        epochs: Passes over the training examples.
        clock: Returns seconds.
    """

    def __init__(self, epochs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._epochs = epochs
        self._clock = clock
        self._durations: list[float] = []
        self._first: tuple[float, float] | None = None
        self._line_at = self._move_at = clock()
        self._bar = _create_bar(epochs)

    def within_epoch(self, number: int, share: float) -> None:
        """Say it during an epoch, but not too often.

        Args:
            number: The epoch, from 1.
            share: How much of it is done, in (0, 1].
        """
        now = self._clock()
        if self._first is None:
            self._first = now, share
        epoch_s = self._epoch_s(now, share)
        if epoch_s is None or share >= 1:
            return
        left_s = epoch_s * (self._epochs - number + 1 - share)
        line = f"{self._named(number)}  {100 * share:.0f} %  {left_s:.0f} s left"
        if now - self._line_at >= LINE_EVERY_S:
            self._line_at = now
            log.info("%s", line)
        if now - self._move_at >= MOVE_EVERY_S:
            self._move(number - 1 + share, line)

    def after_epoch(
        self,
        number: int,
        loss: float,
        accuracy: float,
        duration_s: float,
        validation_accuracy: float | None = None,
    ) -> None:
        """Say it after an epoch, with what was measured.

        Args:
            number: The epoch, from 1.
            loss: Mean loss per training example.
            accuracy: Share of the training examples that were correct, in [0, 1].
            duration_s: Seconds it took.
            validation_accuracy: Likewise of the validation examples; None without any.
        """
        self._durations.append(duration_s)
        line = f"{self._named(number)}  loss {loss:.4f}  accuracy {accuracy:.4f}"
        if validation_accuracy is not None:
            line += f"  validation {validation_accuracy:.4f}"
        line += f"  {duration_s:.1f} s"
        if number < self._epochs:
            left_s = (self._epoch_s(self._clock(), 1) or 0) * (self._epochs - number)
            line += f"  {left_s:.0f} s left"
        self._line_at = self._clock()
        log.info("%s", line)
        self._move(number, line)

    def _epoch_s(self, now: float, share: float) -> float | None:
        """How long an epoch takes; None if nothing tells it yet.

        The first epoch includes compilation, so it is left out as soon as there is another, and
        within it the time until its first report.
        """
        if steady := self._durations[1:] or self._durations:
            return sum(steady) / len(steady)
        if self._first is None or self._first[1] >= share:
            return None
        return (now - self._first[0]) / (share - self._first[1])

    def _named(self, number: int) -> str:
        return f"epoch {number:>{len(str(self._epochs))}}/{self._epochs}"

    def _move(self, epochs_done: float, line: str) -> None:
        if self._bar is None:
            return
        try:
            update_progress_artifact(self._bar, 100 * epochs_done / self._epochs, description=line)
        except Exception as error:  # noqa: BLE001 - training goes on without its bar
            log.warning("the progress bar could not be updated, and stays as it is: %s", error)
            self._bar = None  # each try may wait long for a server that is gone
        self._move_at = self._clock()


def _create_bar(epochs: int) -> UUID | None:
    """The artifact; None outside a flow run, or if the server does not answer."""
    if flow_run.id is None:
        return None
    try:
        return create_progress_artifact(0, description=f"{epochs} epochs to train")  # type: ignore[return-value]
    except Exception as error:  # noqa: BLE001 - training goes on without its bar
        log.warning("the progress bar could not be created: %s", error)
        return None
