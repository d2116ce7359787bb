"""`digits predict`, as a user calls it."""

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from storage.models.backends import LocalFolder
from storage.models.store import ModelStore

DIGITS = str(Path(sys.executable).with_name("digits"))


@pytest.fixture
def store(home: Path, tiny_model) -> ModelStore:
    """Of mnist two champions after one another."""
    made = ModelStore(LocalFolder(home / "models"), "mnist")
    for number in range(2):
        digest = made.stage(f"run-{number}", tiny_model, {"weights_digest": f"w{number}"})
        made.promote(f"run-{number}", digest, made.champion(), actor="retrain", reason="")
    return made


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a seven [bold].png"
    image = Image.new("L", (90, 120), 255)
    ImageDraw.Draw(image).line([(20, 20), (70, 20), (40, 100)], fill=0, width=8)
    image.save(path)
    return path


def test_a_file_gets_digit_probability_runner_up_and_version(digits, store, picture):
    done = digits("predict", str(picture))
    assert done.returncode == 0, done.stderr
    heading, line = done.stdout.splitlines()
    assert heading.split() == ["file", "digit", "probability", "runner-up", "version"]
    assert line.startswith(str(picture))
    assert line.endswith("run-1")

    (answer,) = json.loads(digits("predict", str(picture), "--json").stdout)
    assert answer["file"] == str(picture)
    assert answer["version"] == "run-1"
    assert {answer["digit"], answer["runner_up"]} <= set(range(10))
    assert (answer["text"], answer["unsure"]) == (str(answer["digit"]), False)
    assert answer["left"] + answer["width"] <= 90
    assert answer["top"] + answer["height"] <= 120
    assert 1 >= answer["probability"] >= answer["runner_up_probability"] > 0
    (row,) = csv.DictReader(io.StringIO(digits("predict", str(picture), "--csv").stdout))
    assert row == {name: str(value) for name, value in answer.items()}
    assert f"{answer['probability']:.4f}" in line


def test_of_several_digits_each_has_a_row_with_its_box(digits, store, tmp_path):
    image = Image.new("L", (300, 120), 255)
    for left in (30, 150):
        points = [(left, 20), (left + 50, 20), (left + 20, 100)]
        ImageDraw.Draw(image).line(points, fill=0, width=8)
    image.save(tmp_path / "two.png")
    first, second = json.loads(digits("predict", str(tmp_path / "two.png"), "--json").stdout)
    assert first["text"] == second["text"] == f"{first['digit']}{second['digit']}"
    assert 20 <= first["left"] < first["left"] + first["width"] < 140 < second["left"]
    heading, *rows = digits("predict", str(tmp_path / "two.png")).stdout.splitlines()
    assert heading.split()[-2:] == ["number", "box"]
    assert len(rows) == 2
    assert rows[1].endswith("{width} x {height} at {left}, {top}".format_map(second))


def test_a_folder_and_standard_input_and_the_rolled_back_version(
    digits, store, picture, environment
):
    below = picture.parent / "more" / "below"
    below.mkdir(parents=True)
    for name in ("b.JPG", "a.bmp", "c.webp"):
        Image.open(picture).save(below / name)
    (below / "notes.txt").write_text("no image")
    done = digits("predict", str(below.parent), "--json")
    assert done.stderr.startswith(f"{below.parent}: skipped 1 of 4 files, not .bmp, ")
    answers = json.loads(done.stdout)
    assert [Path(answer["file"]).name for answer in answers] == ["a.bmp", "b.JPG", "c.webp"]
    assert len({answer["digit"] for answer in answers}) == 1

    digits("rollback")
    piped = subprocess.run(
        [DIGITS, "predict", "-", "--json"],
        check=True, env=environment, input=picture.read_bytes(), capture_output=True,
    )  # fmt: skip
    (answer,) = json.loads(piped.stdout)
    assert (answer["file"], answer["version"]) == ("-", "run-0")


def test_unreadable_images_are_reported_and_the_others_predicted(digits, store, picture):
    empty = picture.with_name("empty.png")
    Image.new("L", (50, 50), 255).save(empty)
    broken = picture.with_name("broken.png")
    broken.write_bytes(picture.read_bytes()[:60])
    done = digits("predict", str(empty), str(picture), str(broken), "missing.png")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.splitlines() == [
        f"Error: {empty}: expected a digit in the image, found no ink",
        f"Error: {broken}: expected an image file (PNG, JPEG, WEBP, BMP), received a damaged file"
        " (image file is truncated)",
        "Error: missing.png: No such file or directory",
    ]
    answers = json.loads(digits("predict", str(empty), str(picture), "--json").stdout)
    assert ["error" in answer for answer in answers] == [True, False]


def test_each_path_that_cannot_be_read_has_a_line_and_the_others_are_predicted(
    digits, store, picture
):
    folder = picture.parent / "mixed"
    folder.mkdir()
    shutil.copy(picture, folder / "line\nfeed.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "loop.png").symlink_to("loop.png")
    long = "x" * 300 + ".png"
    done = digits("predict", long, "mixed", "", "mixed/loop.png/x", str(picture))
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "file", "mixed/line\\nfeed.png", str(picture).split()[0],
    ]  # fmt: skip
    assert done.stderr.splitlines() == [
        "mixed: skipped 1 of 4 files, not .bmp, .jpeg, .jpg, .png, .webp",
        f"Error: {long}: File name too long",
        "Error: mixed/dangling.png: No such file or directory",
        "Error: mixed/loop.png: Too many levels of symbolic links",
        "Error: : No such file or directory",
        "Error: mixed/loop.png/x: Too many levels of symbolic links",
    ]

    name = os.fsdecode(b"\xff.png")
    picture.rename(folder / name)
    (answer,) = json.loads(digits("predict", f"mixed/{name}", "--json").stdout)
    assert answer["file"] == f"mixed/{name}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(digits, store, picture):
    folder = picture.parent / "closed"
    folder.mkdir(mode=0)
    done = digits("predict", "closed", str(picture))
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)
    assert done.stderr == "Error: closed: Permission denied\n"


def test_a_folder_without_images_is_an_error_and_the_others_are_predicted(digits, store, picture):
    nothing = picture.parent / "nothing"
    nothing.mkdir()
    for others in ([], [str(picture)]):
        done = digits("predict", str(nothing), *others)
        assert (done.returncode, bool(done.stdout)) == (1, bool(others))
        assert done.stderr == f"Error: {nothing}: expected images in the folder, found none\n"


def test_damaged_exif_data_is_left_out_in_silence(digits, store, picture, tmp_path):
    photo = tmp_path / "photo.jpg"
    Image.open(picture).convert("RGB").save(photo, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    done = digits("predict", "photo.jpg")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_champion_or_with_several_it_says_what_to_do(digits, picture, home, tiny_model):
    done = digits("predict", str(picture))
    assert done.returncode == 1
    assert "train one: digits retrain" in done.stderr
    for dataset in ("mnist", "mine"):
        made = ModelStore(LocalFolder(home / "models"), dataset)
        digest = made.stage(f"{dataset}-1", tiny_model, {})
        made.promote(f"{dataset}-1", digest, None, actor="retrain", reason="")
    done = digits("predict", str(picture))
    assert done.returncode == 1
    assert done.stderr == "Error: expected --dataset with one of mine, mnist\n"
    (answer,) = json.loads(digits("predict", "--dataset", "mine", str(picture), "--json").stdout)
    assert answer["version"] == "mine-1"


def test_a_changed_model_is_never_used(digits, store, picture):
    chance = random.Random(0)
    for path in sorted(store.version("run-1").iterdir()):
        content = path.read_bytes()
        place = chance.randrange(len(content))
        changed = bytes([content[place] ^ 1 << chance.randrange(8)])
        for damaged in (content[:place], content[:place] + changed + content[place + 1 :]):
            path.write_bytes(damaged)
            done = digits("predict", str(picture))
            assert (done.returncode, done.stdout) == (1, ""), path
            assert "`digits rollback --dataset mnist` switches to another version" in done.stderr
        path.write_bytes(content)
    assert digits("predict", str(picture)).returncode == 0


def test_a_file_without_an_end_is_refused_without_reading_all_of_it(digits, store):
    done = digits("predict", "/dev/zero")

    assert done.returncode == 1
    assert done.stderr == (
        "Error: /dev/zero: expected an image file of at most 128 MiB, received a larger one\n"
    )


def test_it_needs_neither_tensorflow_nor_prefect_nor_a_database(
    digits, environment, store, picture
):
    # What would import them fails at once.
    blocked = store.folder.parent.parent / "blocked"
    for package in (
        "tensorflow", "keras", "prefect", "sqlalchemy", "pandas", "scipy", "matplotlib",
    ):  # fmt: skip
        (blocked / package).mkdir(parents=True)
        (blocked / package / "__init__.py").write_text("raise SystemExit('not this one')")
    others = environment.get("PYTHONPATH", "")
    done = digits("predict", str(picture), PYTHONPATH=f"{blocked}{os.pathsep}{others}")
    assert done.returncode == 0, done.stderr


def test_its_memory_is_at_most_three_times_what_the_import_of_its_libraries_takes(
    peak_kib, store, picture
):
    libraries = "import numpy, PIL.Image, ai_edge_litert.interpreter"
    assert peak_kib(DIGITS, "predict", str(picture)) < 3 * peak_kib(sys.executable, "-c", libraries)
