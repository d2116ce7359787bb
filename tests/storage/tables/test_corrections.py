import hashlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest
from sqlalchemy import text

from storage.errors import CorrectionNotFoundError, DatabaseError, ImageError
from storage.tables.corrections import Corrections, NewCorrection
from storage.tables.database import open_database

IMAGES = np.random.default_rng(1).integers(0, 256, (4, 28, 28)).astype(np.uint8)


@pytest.fixture
def corrections(engine) -> Corrections:
    return Corrections(engine, "mnist")


def test_a_correction_reads_back_the_same_by_sql_and_through_the_table(corrections, settings):
    digests = corrections.add(IMAGES[:2], [3, 8], actor="anna", predicted=5, version="run-1")

    with closing(sqlite3.connect(settings.home / "metrics.db")) as sql:
        found = sql.execute(
            "SELECT digest, image, label, predicted, version, actor FROM corrections ORDER BY label"
        ).fetchall()
    assert found == [
        (hashlib.sha256(image.tobytes()).hexdigest(), image.tobytes(), label, 5, "run-1", "anna")
        for image, label in zip(IMAGES[:2], [3, 8], strict=True)
    ]
    assert sorted(row.digest for row in corrections.all()) == sorted(digests)


def test_a_correction_inserted_by_sql_is_read(corrections, engine):
    with engine.begin() as sql:
        sql.execute(
            text(
                "INSERT INTO corrections (dataset, digest, image, label, corrected_at, actor)"
                " VALUES ('mnist', 'd', :image, 4, '2026-11-23 10:00:00', 'bob')"
            ),
            {"image": IMAGES[0].tobytes()},
        )
    (row,) = corrections.all()
    assert (row.label, row.image, row.actor) == (4, IMAGES[0].tobytes(), "bob")


def test_correcting_an_image_again_replaces_its_label(corrections):
    corrections.add(IMAGES[:1], [3], actor="anna", predicted=5, version="run-1")
    (digest,) = corrections.add(IMAGES[:1], [8], actor="bob")

    (row,) = corrections.all()
    assert (row.digest, row.label, row.actor) == (digest, 8, "bob")
    assert (row.predicted, row.version) == (5, "run-1")


def test_a_revoked_correction_stays_in_the_table_and_counts_again_once_repeated(corrections):
    digest, other = corrections.add(IMAGES[:2], [3, 8], actor="anna")

    assert corrections.revoke(digest[:10]) == digest

    assert [row.digest for row in corrections.all()] == [other]
    assert len(corrections.all(revoked=True)) == 2
    corrections.add(IMAGES[:1], [3], actor="anna")
    assert len(corrections.all()) == 2


@pytest.mark.parametrize("digest", ["", "zz", "%", "_"])
def test_a_digest_that_matches_none_or_several_revokes_nothing(corrections, digest):
    corrections.add(IMAGES[:2], [3, 8], actor="anna")
    with pytest.raises(CorrectionNotFoundError, match="digits corrections"):
        corrections.revoke(digest)
    assert len(corrections.all()) == 2


def test_corrections_of_another_name_are_not_read(corrections, engine):
    corrections.add(IMAGES[:1], [3], actor="anna")
    assert not Corrections(engine, "mnist-5k").all()


def test_one_blank_image_rejects_all_corrections(corrections):
    images = np.concatenate([IMAGES[:1], np.zeros((1, 28, 28), np.uint8)])
    with pytest.raises(ImageError, match="received a blank image"):
        corrections.add(images, [3, 4], actor="anna")
    assert not corrections.all()


def test_one_invalid_label_rejects_all_corrections(corrections):
    with pytest.raises(DatabaseError, match="label_is_a_digit"):
        corrections.add(IMAGES[:2], [3, 10], actor="anna")
    assert not corrections.all()


def test_an_image_that_is_not_a_digit_is_kept_without_a_label(corrections, settings):
    (digest,) = corrections.add(IMAGES[:1], [None], actor="anna", predicted=8, version="run-1")

    with closing(sqlite3.connect(settings.home / "metrics.db")) as sql:
        found = sql.execute("SELECT digest, label, predicted FROM corrections").fetchall()
    assert found == [(digest, None, 8)]
    assert corrections.get(digest).state == "measured"


def test_a_correction_says_whether_it_is_kept_held_revoked_or_which_version_learnt_it(corrections):
    trained = [d for d in corrections.add(IMAGES, [3] * 4, actor="anna") if int(d, 16) % 5]
    digest, other = trained[:2]
    assert corrections.get(digest[:12]).state == "kept"

    corrections.hold({digest: (7, 0.95)}, {digest: "contradicted"})
    held = corrections.get(digest)
    assert (held.state, held.held_why) == ("held", "contradicted")
    assert (held.asked_answer, held.asked_probability) == (7, 0.95)

    corrections.accept([digest], by="carl")
    accepted = corrections.get(digest)
    assert (accepted.state, accepted.accepted_by) == ("kept", "carl")

    rows = [row for row in corrections.all() if row.digest in trained]
    corrections.learn("run-2", rows)
    corrections.learn("run-3", rows)
    assert (corrections.get(digest).state, corrections.get(digest).learnt_by) == ("learnt", "run-2")

    corrections.revoke(other)
    assert corrections.get(other).state == "revoked"


def test_a_correction_of_the_field_set_is_measured_and_never_learnt(corrections):
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 14, 14] = 2
    (digest,) = corrections.add(image, [1], actor="anna")
    assert int(digest, 16) % 5 == 0
    assert corrections.get(digest).state == "measured"


def test_another_label_forgets_what_was_found_about_the_first_and_the_same_label_does_not(
    corrections,
):
    (digest,) = corrections.add(IMAGES[:1], [3], actor="anna")
    corrections.hold({digest: (7, 0.95)}, {digest: "contradicted"})

    corrections.add(IMAGES[:1], [3], actor="bob")
    assert corrections.get(digest).held
    corrections.add(IMAGES[:1], [4], actor="bob")
    changed = corrections.get(digest)
    assert (changed.held, changed.asked_answer, changed.label) == (False, None, 4)


def test_a_label_that_changed_since_the_run_read_it_was_not_learnt(corrections):
    corrections.add(IMAGES[:1], [3], actor="anna")
    rows = corrections.all()
    corrections.add(IMAGES[:1], [4], actor="anna")
    corrections.learn("run-2", rows)
    assert corrections.all()[0].learnt_by is None


def test_the_held_corrections_of_a_person_are_accepted_together(corrections):
    first, second = corrections.add(IMAGES[:2], [3, 8], actor="anna")
    (third,) = corrections.add(IMAGES[2:3], [3], actor="bob")
    corrections.hold({}, {first: "why", third: "why"})

    assert corrections.accept_actor("anna", by="carl") == [first]
    assert [corrections.get(d).held for d in (first, second, third)] == [False, False, True]
    with pytest.raises(CorrectionNotFoundError, match=r"are held \(bob\), received 'anna'"):
        corrections.accept_actor("anna", by="carl")


def test_one_digest_that_matches_none_accepts_nothing(corrections):
    first, _ = corrections.add(IMAGES[:2], [3, 8], actor="anna")
    with pytest.raises(CorrectionNotFoundError, match="no match"):
        corrections.accept([first, "zz"], by="carl")
    assert corrections.get(first).accepted_at is None


def test_what_is_restored_from_a_file_leaves_newer_rows_alone_unless_asked(corrections):
    first, second = corrections.add(IMAGES[:2], [3, 8], actor="anna")
    corrections.revoke(first)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    old = [NewCorrection(image, 5, "bob", when) for image in IMAGES[:3]]

    (third,) = corrections.restore(old, overwrite=False)
    assert [corrections.get(d).label for d in (first, second, third)] == [3, 8, 5]
    assert corrections.get(first).revoked_at is not None
    assert (corrections.get(third).actor, corrections.get(third).corrected_at) == ("bob", when)

    assert corrections.restore(old, overwrite=True) == [first, second, third]
    found = corrections.get(first)
    assert (found.label, found.actor, found.corrected_at, found.revoked_at) == (
        5,
        "bob",
        when,
        None,
    )


def test_corrections_of_an_earlier_release_are_neither_held_nor_accepted(release_home):
    table = Corrections(open_database(f"sqlite:///{release_home}/metrics.db"), "fonts")
    rows = table.all(revoked=True)
    assert len(rows) == 50
    assert {(row.held_at, row.accepted_at, row.asked_answer, row.learnt_by) for row in rows} == {
        (None, None, None, None)
    }
    table.add(IMAGES[:1], [None], actor="anna")
    with pytest.raises(DatabaseError, match="label_is_a_digit"):
        table.add(IMAGES[:1], [10], actor="anna")
