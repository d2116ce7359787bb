import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import cli
from flows.retrain import retrain as retrain_flow
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore
from storage.recipe import parameters
from storage.tables.database import open_database
from storage.tables.runs import Runs
from tasks.data.sources import resolve

DIGITS = str(Path(sys.executable).with_name("digits"))
BAD_RECIPES = [
    (["--epochs", "0"], "epochs: expected a whole number from 1 to 1000, received 0"),
    (["--min-accuracy", "1.5"], "min_accuracy: expected a number from 0 to 1, received 1.5"),
    (["--min-accuracy", "nan"], "min_accuracy: expected a number from 0 to 1, received nan"),
    (["--learning-rate", "inf"], "received inf"),
    (["--seed", "-1"], "received -1"),
    (["--batch-size", "0"], "received 0"),
    (["--min-recall", "1.5"], "min_recall: expected a number from 0 to 1, received 1.5"),
    (["--max-drift", "nan"], "max_drift: expected a number from 0 to 1, received nan"),
    (["--margin", "3"], "only non-inferior has a margin"),
    (["--champion-rule", "non-inferior", "--margin", "-1"], "received -1"),
    (["--dataset", "nosuch"], "expected mnist, mnist-5k or a folder"),
    (["--dataset", "."], "contains neither train-images-idx3-ubyte"),
    (["--dataset", "mnist-5k", "--name", "a b"], "received 'a b'; choose one with --name"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_RECIPES)
def test_bad_input_ends_in_one_line_and_exit_code_2(digits, home, arguments, message):
    done = digits("retrain", *arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line
    assert not home.exists(), "nothing is left by a command that was refused"


def test_an_unknown_architecture_is_refused_with_the_known_ones(digits):
    done = digits("retrain", "--architecture", "resnet")

    assert done.returncode == 2
    assert (
        "expected mlp, cnn, convnet, convnet-deep or package.module:function, received 'resnet'"
        in done.stderr
    )


@pytest.mark.parametrize(
    "arguments",
    [["history", "--dataset"], ["show"], ["rollback", "--why"], ["champion", "--dataset"]],
)
def test_an_argument_that_is_not_utf_8_is_refused_before_anything_happens(digits, home, arguments):
    done = digits(*arguments, os.fsdecode(b"caf\xe9"))

    assert done.returncode == 2
    assert done.stderr == "Error: expected arguments in UTF-8, received b'caf\\xe9'\n"
    assert not home.exists()


@pytest.mark.parametrize("home", ["/dev/null/x", "/proc/x"])
def test_a_home_that_cannot_be_written_is_one_line(digits, home):
    done = digits("retrain", "--dataset", "mnist-5k", DIGITS_HOME=home)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"cannot use the metrics database sqlite:///{home}/metrics.db" in line
    assert "check DIGITS_HOME" in line


@pytest.mark.parametrize("command", [["retrain", "--dataset", "mnist-5k"], ["history"]])
def test_a_file_that_is_not_a_database_is_one_line_and_stays_unchanged(digits, home, command):
    home.mkdir()
    (home / "metrics.db").write_text("no database " * 1000)

    done = digits(*command)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "file is not a database" in line
    assert (home / "metrics.db").read_text() == "no database " * 1000


def test_a_password_is_never_in_an_error(digits):
    url = "postgresql+psycopg2://digits:hunter2@127.0.0.1:1/metrics"

    done = digits("history", DIGITS_DATABASE_URL=url)

    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr


def test_reading_before_the_first_run_says_so_and_makes_nothing(digits, home):
    assert "No runs yet" in digits("history").stderr
    assert json.loads(digits("history", "--json").stdout) == []
    assert "there are no runs yet" in digits("show", "20260101-000000-abcdef").stderr
    assert not home.exists()


def test_the_command_the_flow_and_its_form_take_what_the_recipe_declares():
    command = cli.commands["retrain"].make_context("retrain", []).params
    flow = inspect.signature(retrain_flow.fn).parameters
    form = retrain_flow.parameters.model_dump()["properties"]

    names = [parameter.name for parameter in parameters()]
    assert list(flow) == list(form) == names
    assert sorted(command) == sorted([*names, "as_json", "like"])
    for parameter in parameters():
        name, entry = parameter.name, form[parameter.name]
        of_champion = name in {"architecture", "epochs", "batch_size", "learning_rate"}
        empty = " Empty: as the champion's." if of_champion else ""
        assert command[name] == parameter.default
        assert flow[name].default == entry["default"] == (None if empty else parameter.default)
        assert entry["description"] == parameter.help + empty
        # One that may be left open has two types, of which the second is null.
        declared = entry.get("anyOf", [entry])[0]
        if parameter.bounds:
            assert parameter.bounds == (declared["minimum"], declared["maximum"])
        assert declared.get("enum", []) == list(parameter.choices)
        assert declared.get("pattern") == (parameter.pattern and parameter.pattern.regex)


@pytest.fixture
def run_id(home) -> str:
    """A run in the table of this test's home."""
    home.mkdir()
    engine = open_database(f"sqlite:///{home / 'metrics.db'}")
    recipe = resolve()
    return Runs(engine, 60).open(recipe, versions={}, host="here")


@pytest.fixture
def in_use(home, run_id) -> None:
    """A champion whose files are as large as a real one's; nobody loads them here."""
    store = ModelStore(LocalFolder(home / "models"), "mnist")

    def write(folder: Path) -> None:
        (folder / "model.keras").write_bytes(os.urandom(5_000_000))
        (folder / "model.tflite").write_bytes(os.urandom(1_700_000))

    digest = store.stage("first", write, {"test_correct": 98, "test_total": 100})
    assert store.promote("first", digest, None, actor="retrain", reason="good")


READING = [["history"], ["history", "--json"], ["show", "RUN"], ["champion"], ["--help"]]
NO_DATABASE = {"champion", "--help"}
# Each costs more to import than the command itself; SQLAlchemy where there is a database to read.
HEAVY = (
    "tensorflow", "keras", "prefect", "numpy", "pandas", "scipy", "matplotlib", "PIL", "fastapi",
    "alembic", "ai_edge_litert", "httpx",
)  # fmt: skip


@pytest.mark.parametrize("arguments", READING)
def test_reading_commands_import_only_what_they_use(environment, run_id, in_use, arguments):
    script = (
        "import sys; sys.argv[0] = 'digits'\n"
        "from flows.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    arguments = [run_id if argument == "RUN" else argument for argument in arguments]

    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    imported = done.stderr.splitlines()[-1]
    assert "'flows'" in imported
    for library in HEAVY if arguments[0] not in NO_DATABASE else (*HEAVY, "sqlalchemy"):
        assert f"'{library}'" not in imported


def test_output_that_cannot_be_written_is_one_line(environment, run_id):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [DIGITS, "show", run_id],
            check=False,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "No space left on device" in done.stderr


def test_every_command_and_option_has_a_help_text():
    for command in cli.commands.values():
        assert command.help
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help, f"{command.name} {parameter.opts}"


def test_every_command_and_setting_is_in_the_readme():
    project = Path(__file__).parents[2]
    readme = (project / "README.md").read_text()

    for command in cli.commands:
        assert f"digits {command}" in readme
    settings = set(re.findall(r"DIGITS_[A-Z_]+", (project / "storage/settings.py").read_text()))
    assert len(settings) == 8
    for setting in settings:
        assert f"`{setting}`" in readme
