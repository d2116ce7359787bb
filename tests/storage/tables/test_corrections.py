import hashlib
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from sqlalchemy import text

from storage.errors import CorrectionNotFoundError, ImageError
from storage.tables.corrections import Corrections

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
    from storage.errors import DatabaseError

    with pytest.raises(DatabaseError, match="label_is_a_digit"):
        corrections.add(IMAGES[:2], [3, 10], actor="anna")
    assert not corrections.all()
