"""`digits corrections`, as a user calls it."""

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from storage.tables.corrections import Corrections
from storage.tables.database import open_database

# As MNIST's are: in the middle, so that a PNG of one is taken for what it is.
IMAGES = np.zeros((2, 28, 28), np.uint8)
IMAGES[0, 4:24, 12:16] = 255
IMAGES[1, 4:24, 10:18] = 200
IMAGES[1, 8:20, 12:16] = 0


@pytest.fixture
def corrections(home: Path, tiny_model) -> Corrections:
    """Two of mnist, which has a champion."""
    store = ModelStore(LocalFolder(home / "models"), "mnist")
    digest = store.stage("run-1", tiny_model, {"weights_digest": "w"})
    store.promote("run-1", digest, None, actor="retrain", reason="")
    made = Corrections(open_database(f"sqlite:///{home}/metrics.db"), "mnist")
    made.add(IMAGES[:1], [1], actor="anna", predicted=7, version="run-1")
    made.add(IMAGES[1:], [0], actor="<b>bob</b>")
    return made


def kept(home: Path) -> list[tuple[bytes, int]]:
    with closing(sqlite3.connect(home / "metrics.db")) as sql:
        return sorted(sql.execute("SELECT image, label FROM corrections").fetchall())


def test_they_are_listed_for_people_and_for_programs(digits, corrections):
    first, second = corrections.all()
    for arguments in (("corrections",), ("corrections", "list")):
        lines = digits(*arguments).stdout.splitlines()
        assert lines[0].split() == ["digest", "label", "predicted", "version", "corrected", "actor"]
        assert {lines[1].split()[0], lines[2].split()[0]} == {first.digest[:12], second.digest[:12]}

    found = json.loads(digits("corrections", "list", "--json").stdout)
    assert [(row["label"], row["predicted"], row["actor"]) for row in found] == [
        (1, 7, "anna"),
        (0, None, "<b>bob</b>"),
    ]
    assert "image" not in found[0]
    assert json.loads(digits("corrections", "--json").stdout) == found
    rows = list(csv.DictReader(digits("corrections", "list", "--csv").stdout.splitlines()))
    assert [row["label"] for row in rows] == ["1", "0"]


def test_a_page_shows_their_pictures(digits, corrections, tmp_path):
    done = digits("corrections", "list", "--html", "page.html")
    page = (tmp_path / "page.html").read_text()

    assert done.returncode == 0, done.stderr
    assert page.count("data:image/png;base64,") == 2
    assert "<b>bob</b>" not in page
    assert "&lt;b&gt;bob" in page
    assert "http" not in page


def test_an_option_before_a_subcommand_is_wrong_usage(digits, corrections):
    done = digits("corrections", "--dataset", "mnist", "revoke", corrections.all()[0].digest)
    assert done.returncode == 2
    assert "digits corrections revoke ..." in done.stderr
    assert len(corrections.all()) == 2


def test_one_is_revoked_by_the_beginning_of_its_digest(digits, corrections):
    first, _ = corrections.all()
    done = digits("corrections", "revoke", first.digest[:8])

    assert done.returncode == 0, done.stderr
    assert [row.digest for row in corrections.all()] != [first.digest]
    assert len(json.loads(digits("corrections", "list", "--json").stdout)) == 1
    assert "revoked" in digits("corrections", "list", "--revoked").stdout
    again = digits("corrections", "revoke", first.digest)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1


@pytest.mark.parametrize("target", ["folder", "table.csv"])
def test_an_export_can_be_imported(digits, corrections, home, target):
    before = kept(home)
    assert digits("corrections", "export", target).returncode == 0
    with closing(sqlite3.connect(home / "metrics.db")) as sql, sql:
        sql.execute("DELETE FROM corrections")

    done = digits("corrections", "import", target, "--actor", "carl")

    assert done.returncode == 0, done.stderr
    assert kept(home) == before
    assert {row.actor for row in corrections.all()} == {"carl"}


def test_a_picture_of_any_size_is_normalised_on_import(digits, corrections, home, tmp_path):
    image = Image.new("RGB", (200, 300), "white")
    image.paste("navy", (90, 50, 110, 250))
    image.save(tmp_path / "one, big.png")
    (tmp_path / "mine.csv").write_text('"one, big.png",1\n')

    assert digits("corrections", "import", "mine.csv").returncode == 0

    (new,) = [row for row in corrections.all() if row.label == 1 and row.actor != "anna"]
    found = np.frombuffer(new.image, np.uint8).reshape(28, 28)
    assert (found.max(axis=1) > 0).sum() == 20


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("seven.png,7\nno.png,3\n", "line 2: no.png"),
        ("seven.png,ten\n", "line 1: expected 'path,label'"),
        ("seven.png\n", "line 1: expected 'path,label'"),
        ("seven.png,\n", "line 1: expected 'path,label'"),
        ("mine.csv,3\n", "another file type"),
        ("\x00", "line 1"),
    ],
)
def test_an_invalid_csv_imports_nothing(digits, corrections, home, tmp_path, content, words):
    (tmp_path / "seven.png").write_bytes(
        (Path(__file__).parents[3] / "docs/images/seven.png").read_bytes()
    )
    (tmp_path / "mine.csv").write_text(content)

    done = digits("corrections", "import", "mine.csv")

    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert len(kept(home)) == 2


def test_a_folder_without_corrections_and_a_label_of_ten_are_refused(
    digits, corrections, home, tmp_path
):
    (tmp_path / "empty").mkdir()
    assert "corrections-images" in digits("corrections", "import", "empty").stderr
    digits("corrections", "export", "folder")
    labels = tmp_path / "folder/corrections-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    done = digits("corrections", "import", "folder")
    assert done.returncode == 1
    assert "a label 10" in done.stderr


def test_without_corrections_it_says_what_to_do(digits, corrections):
    for row in corrections.all():
        corrections.revoke(row.digest)
    done = digits("corrections")
    assert (done.returncode, done.stdout) == (0, "")
    assert "digits serve" in done.stderr
    assert digits("corrections", "export", "x").returncode == 1
