"""Progress of the training: a line in the log, and a progress bar in the Prefect UI."""

import logging
from collections.abc import Callable
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.runtime import flow_run

log = logging.getLogger("digits")


def progress_of(epochs: int) -> Callable[[int, float, float, float], None]:
    """A function to call after each epoch with its number (from 1), loss, accuracy and seconds."""
    durations: list[float] = []
    bar = _bar(epochs)

    def show(number: int, loss: float, accuracy: float, duration_s: float) -> None:
        durations.append(duration_s)
        # The first epoch includes compilation; later ones predict the rest better.
        steady = durations[1:] or durations
        left_s = sum(steady) / len(steady) * (epochs - number)
        line = (
            f"epoch {number:>{len(str(epochs))}}/{epochs}  loss {loss:.4f}"
            f"  accuracy {accuracy:.4f}  {duration_s:.1f} s"
        )
        if number < epochs:
            line += f"  {left_s:.0f} s left"
        log.info("%s", line)
        if bar is not None:
            try:
                update_progress_artifact(bar, 100 * number / epochs, description=line)
            except Exception as error:  # noqa: BLE001 - training goes on without its bar
                log.warning("the progress bar could not be updated: %s", error)

    return show


def _bar(epochs: int) -> UUID | None:
    """The artifact; None outside a flow run, or if the server does not answer."""
    if flow_run.id is None:
        return None
    try:
        return create_progress_artifact(0, description=f"{epochs} epochs to train")  # type: ignore[return-value]
    except Exception as error:  # noqa: BLE001 - training goes on without its bar
        log.warning("the progress bar could not be created: %s", error)
        return None
