"""`digits history`, `show` and `report` on tables with rows in them."""

import csv
import fcntl
import io
import json
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click
import pytest

from flows.output.display import sparkline
from flows.output.pages import report_page
from storage.records import Evaluation, Status
from storage.tables.database import open_database
from storage.tables.runs import Runs
from tasks.data.sources import resolve

EPOCHS = [
    {"loss": 0.5, "accuracy": 0.8, "duration_s": 1.5, "validation_loss": 0.3},
    {"loss": 0.25, "accuracy": 0.9, "duration_s": 1.0, "validation_loss": 0.2},
]
REASON = "failed the rule champion: it is better on the same images, 300 against 20 " * 3
DIGITS = str(Path(sys.executable).with_name("digits"))


@pytest.fixture
def ids(home) -> list[str]:
    """A run that failed, one that was rejected, one that was promoted; of two datasets."""
    home.mkdir()
    runs = Runs(open_database(f"sqlite:///{home / 'metrics.db'}"), 60)
    made = []
    for dataset, status, correct in (
        ("mnist", Status.FAILED, None),
        ("mnist", Status.REJECTED, 90),
        ("mnist", Status.PROMOTED, 95),
        ("other", Status.PROMOTED, 99),
    ):
        recipe = resolve(name=dataset, epochs=2)
        run_id = runs.open(recipe, versions={"python": "3.11"}, host="here")
        if correct:
            runs.add_epochs(run_id, EPOCHS)
            rows = [[10 if a == b else 0 for b in range(10)] for a in range(10)]
            runs.set_robustness(run_id, [("thin", 190, 200), ("moved", 60, 200)])
            runs.set_digits(run_id, Evaluation(0.1, tuple(map(tuple, rows))))
            runs.note(
                run_id, test_loss=0.1, test_accuracy=correct / 100, test_correct=correct,
                test_total=100, generation=1, weights_digest="ab",
            )  # fmt: skip
        runs.close(run_id, status, REASON)
        made.append(run_id)
    return made


def listed(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()[1:] if line[:2] == "20"]


def test_history_lists_and_filters(digits, ids):
    assert listed(digits("history").stdout) == ids[::-1]
    assert listed(digits("history", "--dataset", "other").stdout) == ids[3:]
    assert listed(digits("history", "--status", "failed").stdout) == ids[:1]
    assert listed(digits("history", "-n", "2").stdout) == ids[:1:-1]
    assert listed(digits("history", "--since", "2020-01-01").stdout) == ids[::-1]
    none = digits("history", "--until", "2020-01-01")
    assert (none.stdout, none.stderr) == ("", "No matching runs.\n")
    for wrong in (["--status", "lucky"], ["--since", "yesterday"]):
        assert digits("history", *wrong).returncode == 2


def test_history_shows_the_trend_of_each_dataset_with_more_than_one_run(digits, ids):
    text = digits("history").stdout
    assert "mnist: accuracy ▁█  0.9000 to 0.9500" in text
    assert "other: accuracy" not in text


def in_a_terminal(columns: int, environment: dict[str, str], *arguments: str) -> list[str]:
    """The lines that a command prints in a terminal of this width."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    # rich asks a terminal for its width unless it is dumb or COLUMNS is set.
    known = {**environment, "TERM": "xterm"}
    known.pop("COLUMNS", None)
    done = subprocess.run([DIGITS, *arguments], check=False, env=known, stdout=slave)
    os.close(slave)
    assert done.returncode == 0
    printed = os.read(master, 100_000).decode()
    os.close(master)
    return click.unstyle(printed).splitlines()


@pytest.mark.parametrize("columns", [80, 100, 120, 160, 240])
def test_history_in_a_terminal_shortens_nothing_but_the_reason(environment, ids, columns):
    header, *lines = in_a_terminal(columns, environment, "history")[:5]

    cells = [
        ["other", "0.9900", "0.1000"],
        ["mnist", "0.9500", "0.1000"],
        ["mnist", "0.9000", "0.1000"],
        ["mnist"],
    ]
    statuses = ["promoted", "promoted", "rejected", "failed"]
    for line, run, status, values in zip(lines, ids[::-1], statuses, cells, strict=True):
        assert line.split()[: 2 + len(values)] == [run, status, *values]
        assert len(line) <= columns
        assert ("failed the rule champion" in line) == (columns >= 120)
    assert header.split()[:7] == ["run", "status", "dataset", "test", "accuracy", "test", "loss"]


@pytest.mark.parametrize(
    ("encoding", "trend"), [("ascii", "_#"), ("cp1252", "_#"), ("latin-1", "_#"), ("utf-8", "▁█")]
)
def test_a_narrow_encoding_gets_other_bars(environment, ids, encoding, trend):
    done = subprocess.run(
        [DIGITS, "history"],
        check=True,
        env={**environment, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert f"mnist: accuracy {trend}  0.9000" in done.stdout.decode(encoding)
    assert done.stderr == b""


@pytest.mark.parametrize("output", [">&-", "| true"])
def test_a_closed_output_ends_quietly(environment, ids, output):
    done = subprocess.run(
        ["sh", "-c", f"{DIGITS} history {output}"],
        check=False,
        env=environment,
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("values", "bars"), [([1], "▁"), ([1, 1], "▁▁"), ([0, 7], "▁█"), ([3, 2, 1, 0], "█▆▃▁")]
)
def test_a_sparkline_goes_from_the_least_to_the_most(values, bars):
    assert sparkline(values) == bars


def test_rows_come_as_csv_and_as_json(digits, ids):
    rows = list(csv.DictReader(io.StringIO(digits("history", "--csv").stdout)))
    assert [row["run_id"] for row in rows] == ids[::-1]
    assert [row["test_accuracy"] for row in rows] == ["0.99", "0.95", "0.9", ""]
    assert rows[0]["started_at"].endswith("+00:00")
    assert json.loads(rows[0]["versions"]) == {"python": "3.11"}
    assert [row["run_id"] for row in json.loads(digits("history", "--json").stdout)] == ids[::-1]
    (one,) = csv.DictReader(io.StringIO(digits("show", ids[2], "--csv").stdout))
    assert one["test_correct"] == "95"
    assert digits("history", "--csv", "--until", "2020-01-01").stdout == ""


def test_show_has_the_learning_curve_each_digit_and_each_transformation(digits, ids):
    lines = [" ".join(line.split()) for line in digits("show", ids[2]).stdout.splitlines()]
    assert "loss, epochs █▁ 0.5000 to 0.2500" in lines
    assert "validation loss, epochs █▁ 0.3000 to 0.2000" in lines
    assert not [line for line in lines if line.startswith("validation accuracy, epochs")]
    assert "digit 7 10 of 10 recall 1.0000 precision 1.0000" in lines
    assert "robustness, thin 190 of 200 0.9500" in lines
    shown = json.loads(digits("show", ids[2], "--json").stdout)
    assert [epoch["loss"] for epoch in shown["learning_curve"]] == [0.5, 0.25]
    assert [digit["correct"] for digit in shown["digits"]] == [10] * 10
    assert [(r["transformation"], r["correct"], r["total"]) for r in shown["robustness"]] == [
        ("moved", 60, 200), ("thin", 190, 200),
    ]  # fmt: skip
    assert digits("show", ids[0]).returncode == 0, "a run without either is shown too"


def test_report_writes_a_page_that_needs_nothing_else(digits, home, ids, tmp_path):
    picture = "![curve](data:image/png;base64,AAAA)"
    (home / "reports").mkdir()
    (home / "reports" / f"{ids[2]}.md").write_text(
        f"# Promoted: 95 <b>\n\n| a | b |\n| --- | --- |\n| **1** | `2` |\n\n{picture}\n"
    )

    beside = digits("report", ids[2])
    there = digits("report", ids[2], "--out", str(tmp_path / "page.html"))

    assert beside.stdout.strip() == str(home / "reports" / f"{ids[2]}.html")
    assert there.returncode == 0
    html = (tmp_path / "page.html").read_text()
    assert "<title>Promoted: 95 &lt;b&gt;</title>" in html
    assert "<strong>1</strong>" in html
    assert "<h1>Promoted: 95 &lt;b&gt;</h1>" in html, "what a report says is text, not HTML"
    assert '<img src="data:image/png;base64,AAAA" alt="curve"' in html
    assert "http" not in html


def test_a_run_without_a_report_is_one_line(digits, home, ids):
    for run in (ids[0], "nobody", "../metrics"):
        done = digits("report", run)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: expected a run with a report in ")
    (home / "reports").mkdir()
    (home / "reports" / f"{ids[2]}.md").write_text("# x")
    full = digits("report", ids[2], "--out", "/proc/x.html")
    assert full.returncode == 1
    assert "cannot write /proc/x.html" in full.stderr


def test_a_page_is_one_html_document():
    assert report_page("# A\n\ntext").count("<html") == 1
