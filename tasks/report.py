"""Report: what people find in the morning, in the Prefect UI and as a file."""

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from storage.tables.schema import Run
from tasks.data.dataset import Dataset
from tasks.reporting import artifact_key
from tasks.reporting.text import leaderboard_text, report_text
from tasks.scoring.values import Measurements
from tasks.train import LearningCurve


@task(cache_policy=NO_CACHE)
def report(
    row: Run,
    newest: Sequence[Run],
    dataset: Dataset,
    curve: LearningCurve,
    measurements: Measurements,
    folder: Path,
) -> None:
    """Write the report to a file, and the artifacts ``report-NAME`` and ``leaderboard-NAME``.

    The run's row is closed; ``newest`` has the rows of its name, newest first.
    """
    text = report_text(row, curve, measurements, dataset.test_images)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{row.run_id}.md").write_text(text, encoding="utf-8")
    name = row.dataset
    key = artifact_key("report", name)
    create_markdown_artifact(text, key=key, description=f"{name}, run {row.run_id}")
    key = artifact_key("leaderboard", name)
    create_markdown_artifact(leaderboard_text(newest), key=key, description=name)
