import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from storage.models.backends import LocalFolder
from storage.models.classifier import load_classifier
from storage.models.store import ModelStore
from tasks import compare as compare_module
from tasks.compare import compare
from tasks.data.dataset import Dataset
from tasks.gate import gate
from tasks.scoring.values import Measurements, Pairs, Score
from tasks.stage import stage

Runs = Callable[..., Any]


@pytest.fixture
def measured(stored, mnist_5k: Dataset) -> Callable[[Any, str], Measurements]:
    """Compare a challenge whose candidate is the stored network of this name."""
    return lambda run, name: compare.fn(
        run.store, run.candidate, mnist_5k, stored[name].evaluation, run.recipe
    )


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have scoring start a real process of another kind: nothing else makes it fail on demand."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_the_stored_bytes_are_counted_as_keras_counts(trained, tmp_path: Path) -> None:
    store = ModelStore(LocalFolder(tmp_path), "mine")
    candidate = stage.fn(store, "run", trained.model, trained.dataset, {})
    found = compare.fn(store, candidate, trained.dataset, trained.evaluation, trained.recipe)
    assert found.test_digest == trained.dataset.test_digest
    assert found.trained is trained.evaluation
    assert found.challenger.evaluation.confusion == trained.evaluation.confusion
    assert found.challenger.evaluation.loss == pytest.approx(trained.evaluation.loss, rel=1e-4)
    assert found.challenger.golden_difference <= 1e-4
    assert (found.champion, found.best, found.compared_with) == (None, None, None)
    assert found.pairs is None
    assert gate.fn(found, replace(trained.recipe, min_recall=0.0)).accepted


def test_the_champions_bytes_are_scored_on_the_same_images_and_pairs_are_counted(
    promoted: Runs, challenge: Runs, measured, stored, mnist_5k: Dataset
) -> None:
    champion = promoted("good")
    found = measured(challenge("rough"), "rough")
    assert found.champion.evaluation.confusion == stored["good"].evaluation.confusion
    assert found.challenger.evaluation.confusion == stored["rough"].evaluation.confusion
    assert found.compared_with == champion.store.champion()
    labels = mnist_5k.test_labels.tolist()
    pairs = zip(stored["rough"].answers.tolist(), stored["good"].answers.tolist(), strict=True)
    alone = [0, 0]
    for label, (ours, theirs) in zip(labels, pairs, strict=True):
        alone[0] += ours == label != theirs
        alone[1] += theirs == label != ours
    assert found.pairs == Pairs(*alone)
    assert min(alone) > 0


def test_images_that_are_not_a_digit_are_counted_if_they_are_answered_surely(
    promoted: Runs, challenge: Runs, stored, mnist_5k: Dataset
) -> None:
    champion, run = promoted("good"), challenge("rough")
    noise = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    data = replace(mnist_5k, not_digits=np.concatenate([noise, mnist_5k.test_images[:40]]))
    trained = stored["rough"].evaluation
    found = compare.fn(run.store, run.candidate, data, trained, run.recipe)
    swap = champion.store.champion()
    for score, folder, digest in (
        (found.challenger, run.folder, run.candidate.digest),
        (found.champion, champion.store.version(swap.version), swap.digest),
    ):
        unsure = load_classifier(folder, digest).unsure_scores(data.not_digits) > 1
        assert unsure[:5].all()
        assert 0 < score.not_digits_sure == 45 - unsure.sum()
    assert found.columns()["not_digits_sure"] == found.challenger.not_digits_sure
    without = compare.fn(run.store, run.candidate, mnist_5k, trained, run.recipe)
    assert without.challenger.not_digits_sure is None


@pytest.mark.parametrize("file", ["model.tflite", "model.keras", "golden.npz", "manifest.json"])
@pytest.mark.parametrize("whose", ["champion", "challenger"])
def test_a_damaged_file_leaves_no_score_and_the_reason_names_it(
    promoted: Runs, challenge: Runs, measured, file: str, whose: str
) -> None:
    champion, run = promoted("rough"), challenge("good")
    folders = {
        "champion": champion.store.version(champion.id),
        "challenger": run.folder,
    }
    flip_a_bit(folders[whose] / file)
    found = measured(run, "good")
    assert str(folders[whose] / file) in getattr(found, whose).reason
    (other,) = {"champion", "challenger"} - {whose}
    assert isinstance(getattr(found, other), Score)
    decision = gate.fn(found, run.recipe)
    assert not decision.accepted
    assert file in decision.reason
    assert ("`digits rollback`" in decision.reason) == (whose == "champion")


def test_a_champion_without_files_is_not_scored_and_not_waited_for(
    promoted: Runs, challenge: Runs, measured
) -> None:
    champion = promoted("rough")
    shutil.rmtree(champion.store.version(champion.id))
    run = challenge("good")
    found = measured(run, "good")
    assert "manifest.json" in found.champion.reason
    assert not gate.fn(found, run.recipe).accepted


@pytest.mark.parametrize("file", ["champion.json", "states/*.json"])
def test_a_damaged_pointer_or_state_is_a_champion_that_cannot_be_scored(
    promoted: Runs, challenge: Runs, measured, file: str
) -> None:
    run = challenge("good")
    store = promoted("rough").store
    pointer = store.champion()
    (path,) = store.folder.glob(file)
    path.write_text("{")
    found = measured(run, "good")
    assert isinstance(found.challenger, Score)
    assert path.name in found.champion.reason
    assert found.compared_with == (None if file == "champion.json" else pointer)
    decision = gate.fn(found, run.recipe)
    assert not decision.accepted
    assert "`digits rollback`" in decision.reason


def test_a_champion_replaced_and_removed_during_scoring_is_compared_again(
    promoted: Runs,
    challenge: Runs,
    measured,
    stored,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = promoted("poor")
    folder = first.store.folder
    pointer = folder / "champion.json"
    before = pointer.read_bytes()
    second = promoted("rough")
    shutil.copy(pointer, tmp_path)
    pointer.write_bytes(before)
    run = challenge("good")
    # The store moves on when the pointer was read and the version was not.
    interpreter(
        tmp_path,
        monkeypatch,
        f"if [ -e {tmp_path}/champion.json ]; then\n"
        f"  mv {tmp_path}/champion.json {folder}/\n"
        f"  rm -r {first.store.version(first.id)}\n"
        f"  echo once >> {tmp_path}/moved\n"
        f'fi\nexec {sys.executable} "$@"',
    )
    found = measured(run, "good")
    assert (tmp_path / "moved").read_text() == "once\n"
    assert found.compared_with == run.store.champion()
    assert found.compared_with.version == second.id
    assert found.champion.evaluation.confusion == stored["rough"].evaluation.confusion


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo it is broken >&2; exit 3", "it is broken"),
        ("kill -9 $$", "CalledProcessError"),
        ("echo rubbish", "ValidationError"),
        ("true", "ValidationError"),
        ("echo null", "the scoring process failed"),
        ("echo '[]'", "the scoring process failed"),
        ("echo '{}'", "the scoring process failed"),
    ],
)
def test_a_scoring_process_that_dies_or_prints_rubbish_leaves_no_score_and_nothing_passes(
    promoted: Runs,
    challenge: Runs,
    measured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    said: str,
) -> None:
    promoted("rough")
    run = challenge("good")
    interpreter(tmp_path, monkeypatch, script)
    found = measured(run, "good")
    assert said in found.challenger.reason
    assert said in found.champion.reason
    assert "\n" not in found.challenger.reason
    decision = gate.fn(found, run.recipe)
    assert not decision.accepted
    assert said in decision.reason


def test_a_process_that_does_not_end_is_ended_and_leaves_no_score(
    challenge: Runs, measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = challenge("good")
    monkeypatch.setattr(compare_module, "TIMEOUT_S", 0.5)
    interpreter(tmp_path, monkeypatch, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    assert "TimeoutExpired" in measured(run, "good").challenger.reason
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_an_interpreter_that_is_not_there_leaves_no_score(
    challenge: Runs, measured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = challenge("good")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    assert "FileNotFoundError" in measured(run, "good").challenger.reason


def test_the_best_champion_ever_is_scored_where_the_rule_asks_for_it_and_nowhere_else(
    promoted: Runs, challenge: Runs, measured, stored
) -> None:
    promoted("good")
    # Where the champion is the best itself, it is scored once.
    first = challenge("rough", champion_rule="non-inferior")
    assert measured(first, "rough").best is None
    promoted("poor")
    anchored = challenge("rough", champion_rule="non-inferior", margin=1000)
    found = measured(anchored, "rough")
    assert found.best.evaluation.confusion == stored["good"].evaluation.confusion
    assert found.champion.evaluation.confusion == stored["poor"].evaluation.confusion
    assert gate.fn(found, anchored.recipe).accepted
    for rule in ("not-worse", "better"):
        assert measured(challenge("rough", champion_rule=rule), "rough").best is None


def test_a_margin_is_counted_from_the_best_ever_and_not_from_a_weaker_champion(
    promoted: Runs, challenge: Runs, measured, stored
) -> None:
    promoted("good")
    promoted("poor")
    behind = stored["good"].evaluation.correct - stored["rough"].evaluation.correct
    for margin, accepted in ((behind, True), (behind - 1, False)):
        run = challenge("rough", champion_rule="non-inferior", margin=margin)
        assert gate.fn(measured(run, "rough"), run.recipe).accepted is accepted


def test_weights_that_were_rolled_back_are_known_again_in_a_new_run(
    promoted: Runs, challenge: Runs, measured
) -> None:
    promoted("rough")
    store = promoted("good").store
    swap = store.rollback(None, actor="anna", reason="it takes sevens for ones")
    run = challenge("good")
    found = measured(run, "good")
    assert found.rolled_back == swap
    decision = gate.fn(found, run.recipe)
    assert not decision.accepted
    assert "anna" in decision.reason
    assert measured(challenge("poor"), "poor").rolled_back is None


def test_modules_in_the_working_directory_are_not_imported(
    challenge: Runs, measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    found = measured(challenge("good"), "good")
    assert found.challenger.evaluation.confusion == stored["good"].evaluation.confusion
