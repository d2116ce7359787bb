"""One run of the flow in this process, as ``digits retrain`` does it."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from flows.prefect_host import prepare_environment
from storage.errors import DigitsError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def run_flow(parameters: dict[str, Any]) -> State[Any]:
    """Run the flow ``retrain`` and return its final state; its steps log to standard error."""
    # Prefect's own lines go to its log and the UI.
    prepare_environment(PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL")
    # On a duplicate, because standard error is redirected while TensorFlow is imported.
    handler = logging.StreamHandler(os.fdopen(os.dup(sys.stderr.fileno()), "w"))
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("digits").addHandler(handler)

    from flows.prefect_host.server import server_for_a_run, wait_for_tasks
    from tasks.training.keras_import import import_keras_in_background

    import_keras_in_background()
    with server_for_a_run() as embedded:
        from flows.retrain import retrain

        state = retrain(**parameters, return_state=True)
        _print_traceback(state)
        if embedded:
            wait_for_tasks(state)
    return state


def _print_traceback(state: State[Any]) -> None:
    """Print the traceback of an unexpected error; a DigitsError is shown as one line later."""
    error = state.result(raise_on_failure=False) if state.is_failed() else None
    if isinstance(error, Exception) and error.__traceback__ and not isinstance(error, DigitsError):
        traceback.print_exception(error)
