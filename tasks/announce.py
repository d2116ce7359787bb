"""Announce: the run's name, tags and event in Prefect, for people and automations."""

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from storage.records import Status
from storage.tables.schema import Run
from tasks.reporting import artifact_key

EVENTS = {Status.PROMOTED: "model.promoted", Status.REJECTED: "model.rejected"}
DATA_CHANGED = "data.changed"


@task(cache_policy=NO_CACHE)
def announce(row: Run) -> None:
    """Name and tag the flow run after the outcome in its closed row, and emit its event."""
    if flow_run.id:
        with get_client(sync_client=True) as client:
            tags = {*flow_run.tags, row.status, row.dataset, row.architecture}
            client.update_flow_run(flow_run.id, name=run_title(row), tags=sorted(tags))
    event = EVENTS.get(Status(row.status))
    if event:
        emit_event(event, resource=resource(row.dataset), payload=payload(row))
    if any(rule["name"] == "reference" and not rule["passed"] for rule in row.rules or ()):
        emit_event(DATA_CHANGED, resource=resource(row.dataset), payload=payload(row))
    if row.status == Status.PROMOTED:
        create_link_artifact(
            link=f"{PREFECT_UI_URL.value()}/runs/flow-run/{flow_run.id}",
            link_text=f"run {row.run_id}",
            key=artifact_key("champion", row.dataset),
            description=f"{row.dataset}, generation {row.generation},"
            f" {row.test_correct:,} of {row.test_total:,} correct",
        )


def run_title(row: Run) -> str:
    """A name that tells runs apart, e.g. ``mlp on mnist 0.9812 20261122-140059-0d29c1``."""
    accuracy = "" if row.test_accuracy is None else f" {row.test_accuracy:.4f}"
    return f"{row.architecture} on {row.dataset}{accuracy} {row.run_id}"


def resource(dataset: str) -> dict[str, str]:
    """The resource that events are about: the model kept under a name."""
    return {
        "prefect.resource.id": f"digits.model.{dataset}",
        "prefect.resource.name": f"model of {dataset}",
    }


def payload(row: Run) -> dict[str, object]:
    """The values an automation can put into a message."""
    columns = (
        "run_id", "dataset", "status", "reason", "test_accuracy", "test_loss", "test_correct",
        "test_total", "champion_version", "champion_correct", "generation", "duration_s",
    )  # fmt: skip
    return {column: getattr(row, column) for column in columns}
