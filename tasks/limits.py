"""Limits: a run, and each of its steps, ends within a time, whatever it waits for."""

import contextvars
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

log = logging.getLogger("digits")

# A step other than training takes seconds; how long training takes is the user's choice.
STEP_SHARE = 1 / 4
POLL_S = 0.5
# Between the exception in the run's thread and the end of the process.
GRACE_S = 60.0
# For the row and the flow run's state: the database may be held, too.
GIVE_UP_S = 1200.0


class TimeLimitError(BaseException):
    """A run or a step took too long; not an Exception, which libraries catch to try again."""


@dataclass(frozen=True)
class Limits:
    """What a run and its steps may take, in seconds of a clock that stands still in a suspend."""

    run_s: float

    @property
    def step_s(self) -> float:
        """What a step other than training may take."""
        return self.run_s * STEP_SHARE

    def exceeded(self, step: str, run_took_s: float, step_took_s: float) -> str | None:
        """Say which limit was reached; None if neither was."""
        advice = "find out what it waited for, or raise max_hours"
        if run_took_s >= self.run_s:
            return (
                f"time limit: expected the run to end within {_words(self.run_s)} (max_hours),"
                f" but it was still in the step {step}; {advice}"
            )
        if step != "train" and step_took_s >= self.step_s:
            return (
                f"time limit: expected the step {step} to end within {_words(self.step_s)} (a"
                f" quarter of max_hours), but it was still running; {advice}"
            )
        return None


@contextmanager
def time_limit(hours: float, give_up: Callable[[str], None]) -> Iterator[None]:
    """Raise TimeLimitError in this thread when the block, or a step in it, has taken too long.

    A call that never returns to Python, such as a hanging file system, does not notice. If the
    block has not ended GRACE_S later, the process ends with exit code 1.

    Args:
        hours: What the block may take; ``Limits`` derives that of a step.
        give_up: Called with the reason, in another thread, before the process ends like that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can be interrupted
        return
    ended, reasons = threading.Event(), list[str]()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        if not ended.is_set():
            raise TimeLimitError(reasons[0])

    def watch() -> None:
        reason = _wait_for_limit(Limits(hours * 3600), ended)
        if reason is None:
            return
        reasons.append(reason)
        context.copy().run(log.error, "%s", reason)
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline:
            # Again and again: an exception in a destructor or a callback is lost.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            if ended.wait(min(5.0, GRACE_S)):
                return
        last = threading.Thread(target=context.run, args=(give_up, reason), daemon=True)
        last.start()
        last.join(GIVE_UP_S)
        logging.shutdown()
        os._exit(1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    # Threads in this context: Prefect's settings and its logger know the run by it.
    context = contextvars.copy_context()
    threading.Thread(target=watch, name="time-limit", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGUSR1, before)


def _wait_for_limit(limits: Limits, ended: threading.Event) -> str | None:
    """The limit that was reached; None if the block ended before."""
    began = since = time.monotonic()
    step = "journal"
    while not ended.wait(POLL_S):
        now, seen = time.monotonic(), _current_step()
        if seen and seen != step:
            step, since = seen, now
        if reason := limits.exceeded(step, now - began, now - since):
            return reason
    return None


def _current_step() -> str | None:
    """The outermost step that the main thread is in: a function of the same name as its module."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    found = None
    while frame is not None:
        package, _, module = frame.f_globals.get("__name__", "").rpartition(".")
        if package == "tasks" and frame.f_code.co_name in {module, f"add_{module}"}:
            found = module
        frame = frame.f_back
    return found


def _words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"
