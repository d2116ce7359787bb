"""Which corrections are held: by rule, and by what a real champion answers."""

import hashlib
import itertools
from datetime import UTC, datetime

import numpy as np
import pytest

from storage.models.store import open_store
from storage.records import Evaluation, Outcome, Status
from storage.tables.corrections import Corrections
from storage.tables.schema import Correction
from tasks.corrections import add_corrections
from tasks.hold import hold
from tasks.journal import journal
from tasks.scoring.values import Measurements, Score

EVALUATION = Evaluation(
    0.1, tuple(tuple(100 if row == column else 0 for column in range(10)) for row in range(10))
)
NUMBERS = itertools.count()
WHEN = datetime(2026, 11, 25, tzinfo=UTC)


def sent(
    count: int,
    *,
    actor: str = "anna",
    label: int | None = 1,
    answer: int = 7,
    probability: float = 0.99,
    **values,
) -> list[Correction]:
    """Corrections that an earlier run asked its champion about."""
    return [
        Correction(
            digest=hashlib.sha256(str(next(NUMBERS)).encode()).hexdigest(),
            label=label,
            actor=actor,
            asked_answer=answer,
            asked_probability=probability,
            **values,
        )
        for _ in range(count)
    ]


@pytest.fixture
def held(settings):
    """How many corrections of each person are held."""
    store = open_store(settings, "mnist")
    return lambda *parts: dict(hold.fn([row for part in parts for row in part], store).actors)


def test_a_flood_that_the_champion_contradicts_is_held_with_all_else_of_that_person(held):
    doubtful = sent(20, probability=0.6)
    assert held(sent(300), doubtful, sent(5, actor="bob")) == {"anna": 320}


def test_the_limits_of_the_rule_are_20_half_30_and_500(held):
    assert held(sent(20)) == {}
    assert held(sent(21)) == {"anna": 21}
    assert held(sent(21), sent(21, probability=0.89)) == {}
    assert held(sent(31), sent(300, probability=0.89)) == {"anna": 31}
    assert held(sent(500, probability=0.5)) == {}
    assert held(sent(501, probability=0.5)) == {"anna": 1}


def test_a_person_whose_corrections_the_champion_reads_unsurely_or_rightly_is_not_held(held):
    unsure = sent(90, answer=3, probability=0.6) + sent(10, answer=1, probability=0.7)
    assert held(unsure, sent(15, answer=3), sent(14, answer=8)) == {}


def test_slips_among_honest_corrections_are_too_few_to_hold_any(held):
    assert held(sent(140, answer=1), sent(10)) == {}


def test_a_flood_under_many_names_is_held_as_one(held):
    spread = [sent(5, actor=f"user {i}") for i in range(60)]
    assert sum(held(*spread).values()) == 300


def test_a_flood_with_many_labels_is_held_as_one(held):
    mixed = [sent(5, actor=f"user {i}", label=label) for i, label in enumerate([0, 1, 2, 3] * 3)]
    assert sum(held(*mixed).values()) == 60


def test_a_flood_among_as_many_correct_ones_is_held(held):
    assert held(sent(200, answer=1), sent(150)) == {"anna": 150}


def test_a_flood_of_a_few_each_night_is_never_learnt_beyond_the_limit(held):
    earlier = [sent(5, actor=f"night {night}", learnt_by="run-1") for night in range(6)]
    assert held(*earlier, sent(5, actor="night 7")) == {f"night {i}": 5 for i in (*range(6), 7)}


def test_held_ones_do_not_make_others_suspicious_and_stay_held(held):
    flood = sent(300, actor="eve", held_at=WHEN)
    assert held(flood, sent(15)) == {"eve": 300}
    assert held(flood[:3]) == {"eve": 3}


def test_accepted_ones_are_not_held(held):
    assert held(sent(300, held_at=WHEN, accepted_at=WHEN)) == {}
    assert held(sent(600, accepted_at=WHEN), sent(20)) == {}


def test_images_that_are_not_a_digit_are_not_contradicted(held):
    assert held(sent(300, label=None)) == {}


@pytest.fixture
def flooded(promoted, mnist_5k, settings, engine):
    """A real champion, and 30 test images with a wrong label that it surely reads right."""
    from storage.models.classifier import load_classifier

    made = promoted("good")
    pointer = made.store.champion()
    classifier = load_classifier(made.store.version(pointer.version), pointer.digest)
    probabilities = classifier.probabilities(mnist_5k.test_images)
    answers = probabilities.argmax(axis=1)
    sure = np.flatnonzero((probabilities.max(axis=1) >= 0.9) & (answers == mnist_5k.test_labels))
    images, labels = mnist_5k.test_images[sure[:30]], mnist_5k.test_labels[sure[:30]]
    table = Corrections(engine, "mine")
    table.add(images, [(label + 1) % 10 for label in labels.tolist()], actor="eve")
    table.add(mnist_5k.test_images[sure[30:40]], mnist_5k.test_labels[sure[30:40]].tolist(),
              actor="anna")  # fmt: skip
    return made, table


def test_the_run_asks_its_own_champion_and_writes_what_it_holds(flooded, settings):
    made, table = flooded
    with journal(made.recipe, settings) as run:
        rows = table.all()
        assert len(run.note(hold.fn(rows, run.store)).rows) == 10

    assert {row.actor: row.state for row in table.all()}["eve"] == "held"
    held = [row for row in table.all() if row.held]
    assert len(held) == 30
    assert all(row.asked_probability >= 0.9 for row in held)
    assert held[0].held_why == "the champion was sure of other digits in 30 of eve's 30"
    assert (run.row().corrections_held, run.row().held_actors) == (30, {"eve": 30})


def test_a_champion_that_cannot_be_loaded_leaves_what_earlier_runs_held(flooded):
    made, table = flooded
    pointer = made.store.champion()
    (made.store.version(pointer.version) / "model.tflite").write_bytes(b"broken")
    table.hold({}, {table.all()[0].digest: "why"})
    found = hold.fn(table.all(), made.store)
    assert (len(found.rows), dict(found.answers)) == (39, {})


def test_without_a_champion_none_are_contradicted(settings, engine, mnist_5k):
    table = Corrections(engine, "mine")
    table.add(mnist_5k.test_images[:30], [3] * 30, actor="anna")
    found = hold.fn(table.all(), open_store(settings, "mine"))
    assert (len(found.rows), dict(found.answers)) == (30, {})


def test_a_promoted_run_writes_what_it_learnt_and_a_rejected_one_does_not(
    flooded, settings, mnist_5k
):
    made, table = flooded
    table.add(mnist_5k.train_images[:9], mnist_5k.train_labels[:9].tolist(), actor="bob")
    measured = Measurements("cd" * 32, EVALUATION, Score(EVALUATION, 0.0))

    def close(status: Status) -> str:
        with journal(made.recipe, settings) as run:
            held = run.note(hold.fn(table.all(), run.store))
            run.note(add_corrections.fn(mnist_5k, held.rows, made.recipe))
            run.note(measured)
            run.note(made.candidate)
            generation = 7 if status is Status.PROMOTED else None
            run.close(Outcome(status, "because", generation))
        assert run.outcome.status == status
        return run.id

    close(Status.REJECTED)
    assert {row.state for row in table.all()} == {"held", "kept", "measured"}
    version = close(Status.PROMOTED)
    close(Status.PROMOTED)
    rows = [row for row in table.all() if row.actor == "bob"]
    assert {row.learnt_by for row in rows if not row.in_field_set} == {version}
    assert {row.state for row in rows} == {"learnt", "measured"}
    # Anna's are test images and eve's are held.
    assert {row.learnt_by for row in table.all() if row.actor != "bob"} == {None}
