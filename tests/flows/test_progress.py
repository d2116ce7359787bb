"""The progress bar of a training in Prefect's UI, on a real server."""

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from tasks.training.progress import Progress

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow
def training() -> list[tuple[float, str]]:
    """Two epochs of 20 seconds; what the bar shows after each tenth."""
    now = 0.0
    progress = Progress(2, lambda: now)
    shown = [_bar()]
    for number in (1, 2):
        for tenth in range(1, 11):
            now += 2
            progress.within_epoch(number, tenth / 10)
            shown.append(_bar())
        progress.after_epoch(number, 0.5, 0.8, 20.0)
        shown.append(_bar())
    return shown


def _bar() -> tuple[float, str]:
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json={}).json()
    (bar,) = (artifact for artifact in found if artifact["flow_run_id"] == str(flow_run.id))
    return bar["data"], bar["description"]


def test_the_bar_moves_within_an_epoch_every_few_seconds() -> None:
    shown = training()
    moves = [
        shown[0],
        *(bar for bar, before in zip(shown[1:], shown, strict=False) if bar != before),
    ]
    assert [round(share) for share, _ in moves] == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert [line for _, line in moves[:3]] == [
        "2 epochs to train",
        "epoch 1/2  20 %  36 s left",
        "epoch 1/2  40 %  32 s left",
    ]
    assert moves[5][1] == "epoch 1/2  loss 0.5000  accuracy 0.8000  20.0 s  20 s left"
    assert moves[-2][1] == "epoch 2/2  80 %  4 s left"
