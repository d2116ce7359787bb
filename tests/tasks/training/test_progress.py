import logging

import pytest

from tasks.training.progress import progress_of


def test_each_epoch_is_a_line_with_the_time_left(caplog: pytest.LogCaptureFixture) -> None:
    # Outside a flow run there is no progress bar, and no server is contacted.
    caplog.set_level(logging.INFO, logger="digits")
    show = progress_of(10)
    show(1, 0.5, 0.8, 9.0)
    show(2, 0.25, 0.9, 2.0)
    show(10, 0.1, 0.95, 2.0)
    assert [record.message for record in caplog.records] == [
        "epoch  1/10  loss 0.5000  accuracy 0.8000  9.0 s  81 s left",
        # The first epoch includes compilation, so the estimate leaves it out.
        "epoch  2/10  loss 0.2500  accuracy 0.9000  2.0 s  16 s left",
        "epoch 10/10  loss 0.1000  accuracy 0.9500  2.0 s",
    ]
