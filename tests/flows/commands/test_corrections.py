"""`digits corrections`, as a user calls it."""

import csv
import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from flows.output.correction_files import read_corrections
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


def test_a_name_cannot_control_the_terminal_and_can_be_exported(digits, corrections, tmp_path):
    corrections.add(IMAGES[:1], [1], actor="\x1b[2Janna\u2028bob")
    listed = digits("corrections").stdout
    assert r"\x1b[2Janna\u2028bob" in listed
    assert "\x1b" not in listed

    digits("corrections", "export", "all.CSV")
    assert "all.CSV" in digits("corrections", "import", "all.CSV").stdout
    actors = [given.actor for given in read_corrections(tmp_path / "all.CSV", "me")]
    assert "\x1b[2Janna\u2028bob" in actors


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


def test_held_ones_are_listed_with_the_reason_and_accepted_by_digest_or_person(digits, corrections):
    first, second = corrections.all()
    why = "the champion was sure of other digits in 21 of anna's 30"
    corrections.hold({first.digest: (7, 0.9876)}, {first.digest: why, second.digest: why})

    lines = digits("corrections", "--held").stdout.splitlines()
    assert lines[0].split() == ["digest", "label", "champion", "corrected", "actor", "why"]
    assert "7 (0.9876)" in lines[1]
    held = json.loads(digits("corrections", "--held", "--json").stdout)
    assert [(row["state"], row["held_why"]) for row in held] == [("held", why)] * 2

    done = digits("corrections", "accept", first.digest[:8])
    assert done.stdout == f"accepted {first.digest[:12]}\n"
    assert digits("corrections", "accept", "--actor", "<b>bob</b>").returncode == 0
    assert digits("corrections", "accept").returncode == 2
    assert all(row.accepted_by and not row.held for row in corrections.all())


def test_an_image_that_is_not_a_digit_is_none_in_lists_and_csv_and_left_out_of_idx(
    digits, corrections, home
):
    corrections.add(255 - IMAGES[:1], [None], actor="anna")
    assert [line.split()[1] for line in digits("corrections").stdout.splitlines()[1:]] == [
        "1", "0", "none",
    ]  # fmt: skip
    assert digits("corrections", "--html", "page.html").returncode == 0

    done = digits("corrections", "export", "folder")
    assert done.stdout == "2 corrections: folder\n"
    assert done.stderr == "left out 1 that are not a digit; FILE.csv holds them\n"

    before = kept(home)
    digits("corrections", "export", "table.csv")
    with closing(sqlite3.connect(home / "metrics.db")) as sql, sql:
        sql.execute("DELETE FROM corrections")
    assert digits("corrections", "import", "table.csv").returncode == 0
    assert kept(home) == before


@pytest.mark.slow
def test_a_run_measures_on_imported_images_that_are_not_a_digit_and_does_not_train_on_them(
    digits, trained_home, home, tmp_path
):
    shutil.copytree(trained_home, home)
    for number in range(4):
        image = Image.new("L", (200, 200), 255)
        star = [(100, 20), (140 + number, 180), (20, 80), (180, 80), (60, 180), (100, 20)]
        ImageDraw.Draw(image).line(star, fill=0, width=8)
        image.save(tmp_path / f"{number}.png")
    lines = [f"{number}.png,none" for number in range(4)]
    (tmp_path / "noise.csv").write_text("\n".join(["path,label", *lines]))
    assert digits("corrections", "import", "noise.csv").returncode == 0

    digits("retrain", "--dataset", "mnist-5k", "--epochs", "1", "--corrections")

    newest, _ = json.loads(digits("history", "--json").stdout)
    assert (newest["not_digits"], newest["corrections_used"], newest["train_total"]) == (4, 0, 4000)
    surely = newest["not_digits_sure"]
    report = (home / "reports" / f"{newest['run_id']}.md").read_text()
    line = rf"Corrections that are not a digit: {surely} of 4 answered surely, \d by the champion\."
    assert re.search(line, report)


def test_a_csv_export_keeps_who_and_when_and_leaves_newer_rows_alone_unless_asked(
    digits, corrections
):
    first, second = corrections.all()
    digits("corrections", "export", "table.csv")
    corrections.revoke(first.digest)
    corrections.add(IMAGES[1:], [9], actor="carl")

    done = digits("corrections", "import", "table.csv")
    assert done.stdout == "0 corrections of mnist from table.csv\n"
    assert done.stderr == "2 were in the table already; --overwrite replaces them\n"
    assert [(row.label, row.actor) for row in corrections.all()] == [(9, "carl")]

    done = digits("corrections", "import", "--overwrite", "table.csv")
    assert done.stdout == "2 corrections of mnist from table.csv\n"
    assert [(row.label, row.actor, row.corrected_at) for row in corrections.all()] == [
        (1, "anna", first.corrected_at),
        (0, "<b>bob</b>", second.corrected_at),
    ]


SPREADSHEETS = {
    "byte order mark": "\ufeffpath,label\nseven.png,7\n",
    "semicolons": "path;label\nseven.png;7\n",
    "blank lines": "\npath,label\n\nseven.png,7\n\n,\n",
    "capitals": "Path,LABEL\r\nseven.png,7\r\n",
    "tabs": "path\tlabel\nseven.png\t7\n",
    "other order, other columns": "label;note;path\n7;said Anna;seven.png\n",
    "no header": "seven.png;7\n",
    "spaces and empty columns": "path, label,,\nseven.png, 7,,\n",
    "all of it": "\ufeffPATH;Label;Actor;;\r\n;;;;\r\nseven.png;7;carl;;\r\n;;;;\r\n",
}


def test_a_csv_as_spreadsheets_save_it_is_imported(digits, corrections, tmp_path):
    seven = (Path(__file__).parents[3] / "docs/images/seven.png").read_bytes()
    (tmp_path / "seven.png").write_bytes(seven)
    found = {}
    for kind, content in SPREADSHEETS.items():
        (tmp_path / "mine.csv").write_bytes(content.encode())
        given = read_corrections(tmp_path / "mine.csv", "anna")
        found[kind] = [(row.label, row.actor) for row in given]
    assert found.pop("all of it") == [(7, "carl")]
    assert list(found.values()) == [[(7, "anna")]] * 8
    assert digits("corrections", "import", "mine.csv").returncode == 0


def test_a_dataset_that_no_run_has_is_refused_with_those_that_exist(digits, corrections, tmp_path):
    for command in (("list",), ("import", str(tmp_path))):
        done = digits("corrections", *command, "--dataset", "minst")
        assert done.returncode == 2
        expected = "expected one that has runs (mnist), received 'minst'"
        assert done.stderr == f"Error: dataset: {expected}\n"


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
        ("path;label\nseven.png;none\nseven.png;\n", "line 3: expected 'path,label'"),
        ("path,label,corrected_at\nseven.png,7,today\n", "line 2: corrected_at: expected a date"),
        (
            "path,label,corrected_at\nseven.png,7,9999-12-31T23:00:00-14:00\n",
            "corrected_at: expected",
        ),
        ("seven.png,7\n\nseven.png,none\n", "one label for an image, received 7 and none"),
        (",7\n", "line 1: expected 'path,label'"),
        ("no.png,3\n", "no.png: No such file or directory\n"),
        ("mine.csv,3\n", "another file type"),
        ("\x00", "line 1"),
        ("", "mine.csv: expected a line 'path,label' or more, received none"),
        ("path,label\n\n", "mine.csv: expected a line 'path,label' or more, received none"),
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
    assert digits("corrections", "import", "empty").stderr == (
        "Error: empty: expected a folder that `digits corrections export` wrote, or a CSV file;"
        " received a folder without corrections-images-idx3-ubyte and"
        " corrections-labels-idx1-ubyte\n"
    )
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
