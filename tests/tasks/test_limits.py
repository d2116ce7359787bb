import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.recipe import Recipe
from tasks import limits
from tasks.build import build
from tasks.limits import Limits, TimeLimitError, time_limit


def test_a_step_may_take_a_quarter_of_the_hours_and_training_all_of_them() -> None:
    eight = Limits(8 * 3600)
    assert eight.exceeded("load", 7199, 7199) is None
    assert eight.exceeded("load", 7201, 7200) == (
        "time limit: expected the step load to end within 2 h (a quarter of max_hours), but it was"
        " still running; find out what it waited for, or raise max_hours"
    )
    assert eight.exceeded("train", 28799, 28000) is None
    assert eight.exceeded("train", 28800, 28000) == (
        "time limit: expected the run to end within 8 h (max_hours), but it was still in the step"
        " train; find out what it waited for, or raise max_hours"
    )
    assert "36 s" in Limits(36).exceeded("train", 40, 40)
    assert "15 min" in Limits(3600).exceeded("stage", 900, 900)


def test_what_waits_for_ever_is_interrupted_though_it_catches_every_exception() -> None:
    def insist() -> None:
        while True:
            try:
                time.sleep(600)
            except Exception:  # noqa: BLE001, S112 - as libraries do
                continue

    with (
        pytest.raises(TimeLimitError, match="expected the run to end within 360 ms"),
        time_limit(0.0001, pytest.fail),
    ):
        insist()
    with time_limit(0.0001, pytest.fail):
        pass  # it ends in time, and nothing comes later
    time.sleep(1)


def test_the_step_that_waits_is_named(
    new_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stuck.py").write_text("import time\ndef network(recipe): time.sleep(600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(limits, "STEP_SHARE", 0.0001)
    with (
        pytest.raises(TimeLimitError, match="expected the step build to end within 360 ms"),
        time_limit(1, pytest.fail),
    ):
        build.fn(new_recipe(architecture="stuck:network"))


@pytest.mark.slow
def test_a_process_whose_thread_never_returns_to_python_gives_up_and_ends() -> None:
    program = """
import signal, sys, time
from tasks import limits
limits.GRACE_S = 0.5
with limits.time_limit(0.0001, lambda reason: print(reason, flush=True)):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # as in a call that does not return
    time.sleep(600)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert done.stdout.startswith("time limit: expected the run to end within 360 ms")
