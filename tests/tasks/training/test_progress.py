import logging

import pytest

from tasks.training.progress import Progress


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    # Outside a flow run there is no progress bar, and no server is contacted.
    caplog.set_level(logging.INFO, logger="digits")
    return caplog


def test_each_epoch_is_a_line_with_the_time_left(
    log: pytest.LogCaptureFixture, clock: Clock
) -> None:
    progress = Progress(10, clock)
    progress.after_epoch(1, 0.5, 0.8, 9.0)
    progress.after_epoch(2, 0.25, 0.9, 2.0)
    progress.after_epoch(10, 0.1, 0.95, 2.0, validation_accuracy=0.9912)
    assert log.messages == [
        "epoch  1/10  loss 0.5000  accuracy 0.8000  9.0 s  81 s left",
        # The first epoch includes compilation, so the estimate leaves it out.
        "epoch  2/10  loss 0.2500  accuracy 0.9000  2.0 s  16 s left",
        "epoch 10/10  loss 0.1000  accuracy 0.9500  validation 0.9912  2.0 s",
    ]


def test_a_long_epoch_has_a_line_every_15_seconds(
    log: pytest.LogCaptureFixture, clock: Clock
) -> None:
    progress = Progress(2, clock)
    clock.now += 10  # compilation
    for seconds in range(2, 42, 2):  # an epoch of 40 seconds
        clock.now += 2
        progress.within_epoch(1, seconds / 40)
    progress.after_epoch(1, 0.5, 0.8, 50.0)
    for seconds in range(2, 42, 2):
        clock.now += 2
        progress.within_epoch(2, seconds / 40)
    progress.after_epoch(2, 0.25, 0.9, 40.0)
    assert log.messages == [
        "epoch 1/2  15 %  74 s left",
        "epoch 1/2  55 %  58 s left",
        "epoch 1/2  95 %  42 s left",
        "epoch 1/2  loss 0.5000  accuracy 0.8000  50.0 s  50 s left",
        "epoch 2/2  40 %  30 s left",
        "epoch 2/2  80 %  10 s left",
        "epoch 2/2  loss 0.2500  accuracy 0.9000  40.0 s",
    ]


def test_a_short_epoch_has_no_line_but_its_own(log: pytest.LogCaptureFixture, clock: Clock) -> None:
    progress = Progress(3, clock)
    for number in (1, 2, 3):
        for share in (0.25, 0.5, 0.75, 1):
            clock.now += 2
            progress.within_epoch(number, share)
        progress.after_epoch(number, 0.5, 0.8, 8.0)
    assert [line.split("  ")[1] for line in log.messages] == ["loss 0.5000"] * 3
