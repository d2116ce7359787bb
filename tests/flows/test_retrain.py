import asyncio
import gzip
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.client.orchestration import get_client

from flows.retrain import retrain
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore

PROJECT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path))
    monkeypatch.delenv("DIGITS_DATABASE_URL", raising=False)
    monkeypatch.delenv("DIGITS_MODELS_URL", raising=False)
    return tmp_path


def run(**parameters):
    # Two epochs on 4,000 images: not every digit is learnt by then.
    given = {"dataset": "mnist-5k", "epochs": 2, "seed": 0, "min_accuracy": 0.5, "min_recall": 0.0}
    return retrain(**{**given, **parameters}, return_state=True)


def rows(home):
    connection = sqlite3.connect(home / "metrics.db")
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute("SELECT * FROM runs ORDER BY started_at").fetchall()
    finally:
        connection.close()


def test_a_model_that_passes_the_gate_is_promoted(home):
    state = run()

    (row,) = rows(home)
    assert (state.type.value, state.name) == ("COMPLETED", "Promoted")
    assert state.message == row["reason"]
    assert row["status"] == "promoted"
    assert row["test_correct"] / row["test_total"] == row["test_accuracy"] >= 0.5
    assert row["test_total"] == 1000
    assert row["flow_run_id"] == str(state.state_details.flow_run_id)
    pointer = ModelStore(LocalFolder(home / "models"), "mnist-5k").champion()
    assert (pointer.version, pointer.generation) == (row["run_id"], row["generation"])


def test_a_model_below_the_minimum_is_rejected_and_the_champion_stays(home):
    run()
    champion = (home / "models/mnist-5k/champion.json").read_bytes()

    state = run(min_accuracy=0.999)

    _, row = rows(home)
    assert (state.type.value, state.name) == ("COMPLETED", "Rejected")
    assert state.message == row["reason"]
    assert "required at least 0.999 (999 correct)" in row["reason"]
    assert row["status"] == "rejected"
    assert row["test_loss"] > 0, "a rejected run is measured all the same"
    assert (home / "models/mnist-5k/champion.json").read_bytes() == champion
    assert not list((home / "models/mnist-5k/staging").iterdir())


def test_a_run_on_broken_data_fails_with_its_reason_in_row_and_state(home, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()

    state = run(dataset=str(folder))

    (row,) = rows(home)
    assert (state.type.value, state.name) == ("FAILED", "Failed")
    assert "contains neither train-images-idx3-ubyte" in state.message
    assert (row["status"], row["reason"]) == ("failed", state.message)
    assert row["dataset"] == "broken"
    assert row["finished_at"] is not None


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(home, idx_folder):
    for seed in (7, 7, 8):
        run(seed=seed, epochs=1, dataset=str(idx_folder), min_accuracy=0.0)

    first, second, third = (row["weights_digest"] for row in rows(home))
    assert first == second != third


@pytest.mark.slow
def test_runs_of_a_name_keep_their_own_champion(home):
    run(epochs=1)
    run(epochs=1, name="trial")

    assert (home / "models/mnist-5k/champion.json").exists()
    assert (home / "models/trial/champion.json").exists()
    assert [row["dataset"] for row in rows(home)] == ["mnist-5k", "trial"]


def artifacts_of(state) -> dict[str, dict]:
    """What a run left in the server, by key; the bar of the training has none."""
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json={}).json()
    ids = str(state.state_details.flow_run_id)
    return {a["key"] or a["type"]: a for a in found if a["flow_run_id"] == ids}


def test_the_server_knows_the_run_by_its_name_tags_and_artifacts(home):
    state = run(epochs=1)

    (row,) = rows(home)
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(state.state_details.flow_run_id)
    accuracy = f"{row['test_accuracy']:.4f}"
    assert flow_run.name == f"mlp on mnist-5k {accuracy} {row['run_id']}"
    assert flow_run.state_name == "Promoted"
    assert set(flow_run.tags) == {"promoted", "mnist-5k", "mlp"}
    artifacts = artifacts_of(state)
    keys = {"report-mnist-5k", "leaderboard-mnist-5k", "champion-mnist-5k"}
    assert set(artifacts) == keys | {"progress"}
    assert f"{row['test_correct']} of 1,000 correct" in artifacts["report-mnist-5k"]["data"]
    assert artifacts["report-mnist-5k"]["data"].count("data:image/png;base64,") == 4
    assert accuracy in artifacts["leaderboard-mnist-5k"]["data"]
    assert artifacts["progress"]["data"] == 100
    report = home / "reports" / f"{row['run_id']}.md"
    assert report.read_text() == artifacts["report-mnist-5k"]["data"]


@pytest.mark.slow
def test_a_convnet_is_judged_on_the_validation_part(home):
    state = run(architecture="convnet", epochs=2)

    (row,) = rows(home)
    assert state.name == "Promoted"
    assert (row["train_total"], row["validation_total"]) == (4000, 343)
    assert 0 < row["validation_loss"] < row["validation_disturbed_loss"]
    assert 0.5 < row["validation_accuracy"] <= 1
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        curve = sql.execute("SELECT validation_loss, validation_accuracy FROM epochs").fetchall()
    assert len(curve) == 2
    # After the epoch it was scored in bfloat16, where the processor has it.
    assert curve[1][1] == pytest.approx(row["validation_accuracy"], abs=0.01)
    report = (home / "reports" / f"{row['run_id']}.md").read_text()
    assert "343 of the training images, which were not trained on" in report


def test_learning_curve_digits_and_transformations_are_in_the_tables(home):
    run(epochs=3)

    (row,) = rows(home)
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        epochs = sql.execute("SELECT epoch, loss, accuracy FROM epochs ORDER BY epoch").fetchall()
        digits = sql.execute("SELECT sum(images), sum(correct), sum(answers) FROM digit_metrics")
        assert digits.fetchone() == (1000, row["test_correct"], 1000)
        robustness = sql.execute("SELECT count(*), min(total), max(total) FROM robustness")
        assert robustness.fetchone() == (9, 1000, 1000)
    assert [epoch for epoch, _, _ in epochs] == [1, 2, 3]
    assert epochs[-1][1:] == (row["train_loss"], row["train_accuracy"])
    assert {value for name, value in dict(row).items() if "validation" in name} == {None}


def test_a_failed_run_has_its_tags_too(home, tmp_path):
    state = run(dataset=str(tmp_path))

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(state.state_details.flow_run_id)
    assert {"failed", "mlp"} <= set(flow_run.tags)


def test_a_run_is_compared_with_the_champion_on_the_same_images(home):
    run()
    state = run(epochs=1, seed=1)
    equal = run(champion_rule="better")

    first, second, third = rows(home)
    assert (state.name, second["status"]) == ("Rejected", "rejected")
    assert "champion: " in state.message
    assert second["champion_version"] == first["run_id"]
    assert second["champion_correct"] == first["test_correct"]
    gained, lost = second["only_challenger_correct"], second["only_champion_correct"]
    assert second["test_correct"] == first["test_correct"] + gained - lost
    assert [row["test_uses"] for row in (first, second, third)] == [1, 2, 3]
    assert first["accuracy_low"] < first["test_accuracy"] < first["accuracy_high"]
    assert equal.name == "Rejected"
    assert (third["test_correct"], third["only_challenger_correct"]) == (first["test_correct"], 0)


def test_a_champion_that_cannot_be_scored_rejects_until_it_is_rolled_back(home):
    first, second = run(epochs=1), run()
    assert (first.name, second.name) == ("Promoted", "Promoted")
    store = ModelStore(LocalFolder(home / "models"), "mnist-5k")
    champion = store.champion().version
    path = store.version(champion) / "model.tflite"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)

    state = run(epochs=3)
    assert state.name == "Rejected"
    assert "model.tflite: expected the SHA-256" in state.message
    assert "`digits rollback`" in state.message
    assert store.champion().version == champion

    store.rollback(None, actor="anna@here", reason="damaged")
    assert run(epochs=3).name == "Promoted"
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        kinds = sql.execute("SELECT generation, kind, actor FROM promotions ORDER BY 1").fetchall()
    assert kinds == [
        (1, "promotion", "retrain"),
        (2, "promotion", "retrain"),
        (3, "rollback", "anna@here"),
        (4, "promotion", "retrain"),
    ]


def test_a_model_that_was_rolled_back_is_not_promoted_again(home):
    run(epochs=1)
    run()
    store = ModelStore(LocalFolder(home / "models"), "mnist-5k")
    store.rollback(None, actor="anna@here", reason="it looks odd")

    state = run()

    assert state.name == "Rejected"
    assert "rollback: rolled back by anna@here on " in state.message
    assert "it looks odd" in state.message
    assert store.champion().generation == 3


def test_data_that_drifted_is_refused_before_training(home, idx_folder):
    source = str(idx_folder)
    assert run(dataset=source, epochs=1, min_accuracy=0.0).name == "Promoted"
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        path = idx_folder / name
        content = path.read_bytes()
        path.write_bytes(content[:16] + bytes(255 - value for value in content[16:]))

    state = run(dataset=source, epochs=1, min_accuracy=0.0)

    row = rows(home)[-1]
    assert state.name == "Failed"
    assert "Jensen-Shannon distance of at most 0.2" in state.message
    assert (row["status"], row["fit_s"]) == ("failed", None)


def truncated(folder: Path) -> str:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    return "truncated"


def wrong_magic(folder: Path) -> str:
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(b"\x00\x00\x08\x03" + path.read_bytes()[4:])
    return "magic number"


def fewer_labels(folder: Path) -> str:
    path = folder / "train-labels-idx1-ubyte"
    content = path.read_bytes()
    count = len(content) - 8 - 1
    path.write_bytes(content[:4] + count.to_bytes(4, "big") + content[8:-1])
    return "as many labels as images"


def other_shape(folder: Path) -> str:
    path = folder / "t10k-images-idx3-ubyte"
    content = path.read_bytes()
    shape = (14).to_bytes(4, "big") + (56).to_bytes(4, "big")
    path.write_bytes(content[:8] + shape + content[16:])
    return "14 x 56"


def label_beyond_nine(folder: Path) -> str:
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    return "digits from 0 to 9"


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A small dataset in MNIST's format: 100 and 50 of the 5,000 shipped digits."""
    from tasks.load import load

    data = load.fn("mnist-5k")
    folder = tmp_path / "small"
    folder.mkdir()
    for name, array, count in (
        ("train-images-idx3-ubyte", data.train_images, 100),
        ("train-labels-idx1-ubyte", data.train_labels, 100),
        ("t10k-images-idx3-ubyte", data.test_images, 50),
        ("t10k-labels-idx1-ubyte", data.test_labels, 50),
    ):
        part = array[:: len(array) // count][:count]
        magic = bytes([0, 0, 8, part.ndim])
        sizes = b"".join(size.to_bytes(4, "big") for size in part.shape)
        (folder / name).write_bytes(magic + sizes + part.tobytes())
    return folder


@pytest.mark.parametrize(
    "damage", [truncated, wrong_magic, fewer_labels, other_shape, label_beyond_nine]
)
def test_broken_data_fails_before_training_and_its_row_says_why(home, idx_folder, damage):
    message = damage(idx_folder)

    state = run(dataset=str(idx_folder))

    (row,) = rows(home)
    assert state.name == "Failed"
    assert message in state.message
    assert "\n" not in state.message
    assert (row["status"], row["reason"]) == ("failed", state.message)
    assert row["fit_s"] is None
    assert not (home / "models").exists()


def test_a_folder_may_mix_compressed_and_plain_files(home, idx_folder):
    plain = idx_folder / "train-images-idx3-ubyte"
    with gzip.open(f"{plain}.gz", "wb") as packed:
        packed.write(plain.read_bytes())
    plain.unlink()

    state = run(dataset=str(idx_folder), min_accuracy=0.0, epochs=1)

    (row,) = rows(home)
    assert state.name == "Promoted"
    assert (row["dataset"], row["train_total"], row["test_total"]) == ("small", 100, 50)


@pytest.mark.parametrize(
    "parameters", [{"epochs": 0}, {"min_accuracy": 1.5}, {"architecture": "x"}, {"name": "a b"}]
)
def test_the_flow_refuses_what_is_out_of_bounds_before_it_runs(home, parameters):
    state = run(**parameters)

    assert state.is_failed()
    assert next(iter(parameters)) in state.message
    assert not (home / "metrics.db").exists()


def test_the_flow_file_is_short_and_shows_the_steps_in_their_order():
    text = (PROJECT / "flows/retrain.py").read_text()
    steps = ["journal", "load", "validate", "hold", "add_corrections", "preprocess",
             "hold_out", "budget", "build", "train", "calibrate", "evaluate", "stage",
             "compare", "gate", "promote", "report", "announce"]  # fmt: skip

    assert len(text.splitlines()) <= 92
    body = text[text.index("with journal(") :]
    positions = [body.index(f"{step}(") for step in steps]
    assert positions == sorted(positions)


def test_prefect_yaml_has_only_keys_that_prefect_knows():
    from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel

    config = yaml.safe_load((PROJECT / "prefect.yaml").read_text())

    assert set(config) <= set(PrefectYamlModel.model_fields) | {"pull", "name"}
    for deployment in config["deployments"]:
        assert set(deployment) <= set(DeploymentConfig.model_fields)
    (nightly,) = config["deployments"]
    assert nightly["schedules"] == [{"cron": "0 2 * * *", "timezone": "UTC"}]
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


@pytest.mark.parametrize("cron", ["0 2 * * *", "30 2 * * *", "30 1 * * *"])
@pytest.mark.parametrize("month", [3, 10])
def test_a_schedule_runs_once_a_night_when_the_clock_changes(cron, month):
    """The clock of Zurich changes on 29 March and on 25 October 2026, between 2 and 3."""
    from prefect.server.schemas.schedules import CronSchedule
    from prefect.types._datetime import create_datetime_instance

    zone = ZoneInfo("Europe/Zurich")
    first = 24 if month == 10 else 28
    start = create_datetime_instance(datetime(2026, month, first, tzinfo=zone))
    dates = asyncio.run(CronSchedule(cron=cron, timezone="Europe/Zurich").get_dates(3, start=start))
    assert [date.day for date in dates] == [first, first + 1, first + 2]
