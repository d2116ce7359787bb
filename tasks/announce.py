"""Announce: the run's name, tags and event in Prefect, by which it is found and acted upon."""

import logging

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from storage.records import Status
from storage.tables.schema import Run
from tasks.record import RunInProgress

EVENTS = {Status.PROMOTED: "model.promoted", Status.REJECTED: "model.rejected"}

log = logging.getLogger("digits")


@task(cache_policy=NO_CACHE)
def announce(run: RunInProgress) -> None:
    """Name and tag the flow run after what came of it, and emit its event.

    What fails here only leaves a warning.
    """
    try:
        row = run.runs.get(run.id)
        if flow_run.id:
            with get_client(sync_client=True) as client:
                tags = {*flow_run.tags, row.status, row.dataset, row.architecture}
                client.update_flow_run(flow_run.id, name=run_title(row), tags=sorted(tags))
        event = EVENTS.get(Status(row.status))
        if event:
            emit_event(event, resource=resource(row.dataset), payload=payload(row))
        if row.status == Status.PROMOTED:
            create_link_artifact(
                link=f"{PREFECT_UI_URL.value()}/runs/flow-run/{flow_run.id}",
                link_text=f"run {row.run_id}",
                key="champion",
                description=f"{row.dataset}, generation {row.generation},"
                f" {row.test_correct:,} of {row.test_total:,} right:"
                f" `{run.store.version(row.run_id)}`",
            )
    except Exception as error:  # noqa: BLE001 - the model is promoted or not, whoever hears of it
        log.warning("the run could not be announced: %s", error)


def run_title(row: Run) -> str:
    """What tells runs apart at a glance, e.g. ``mlp on mnist 0.9812 20261122-140059-0d29c1``."""
    accuracy = "" if row.test_accuracy is None else f" {row.test_accuracy:.4f}"
    return f"{row.architecture} on {row.dataset}{accuracy} {row.run_id}"


def resource(dataset: str) -> dict[str, str]:
    """What the events are about: the model of a dataset."""
    return {
        "prefect.resource.id": f"digits.model.{dataset}",
        "prefect.resource.name": f"model of {dataset}",
    }


def payload(row: Run) -> dict[str, object]:
    """What an automation can put into a message."""
    columns = (
        "run_id", "dataset", "status", "reason", "test_accuracy", "test_loss", "test_correct",
        "test_total", "champion_version", "champion_correct", "generation", "duration_s",
    )  # fmt: skip
    return {column: getattr(row, column) for column in columns}
