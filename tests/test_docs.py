"""The documents are true, and complete."""

import os
import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import click
import pytest

from flows.cli import cli
from storage.settings import read_settings
from storage.tables.schema import Base

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
PROMISES = (PROJECT / "docs/promises.md").read_text()
# These install, run the tests, or run until Ctrl-C: other tests try them.
TRIED_ELSEWHERE = ("make test", "digits up", "digits serve")


def transcript() -> list[tuple[str, list[str]]]:
    """Each command of the README with the lines of output below it."""
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                steps[-1][1].append(line)
    return steps


def words(line: str) -> str:
    """A line without what differs from run to run: numbers, drawn lines and spaces."""
    return " ".join(re.sub(r"\S*\d\S*|[│┌┐└┘├┤┬┴┼─]", " ", line).split())


def test_the_readme_begins_with_the_two_commands():
    assert [command for command, _ in transcript()][:2] == ["make run", "make test"]


def test_make_renews_the_environment_of_a_folder_that_was_moved(tmp_path):
    here, there = tmp_path / "here", tmp_path / "over there"
    here.mkdir()
    shutil.copy(PROJECT / "Makefile", here)
    create = ["python3", "-m", "venv", "--without-pip", ".venv"]
    subprocess.run(create, cwd=here, check=True)
    subprocess.run(["make", "--silent", "help"], cwd=here, check=True, capture_output=True)
    assert (here / ".venv").exists()

    here.rename(there)
    done = subprocess.run(["make", "help"], cwd=there, check=True, capture_output=True, text=True)

    assert "The folder was moved: making .venv anew.\n" in done.stdout
    assert not (there / ".venv").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_commands_in_the_readme_print_the_output_below_them(tmp_path):
    if shutil.which("sqlite3") is None:
        pytest.skip("the README's example with SQLite's shell needs sqlite3")
    # A folder like the project's, with its own home.
    for name in (".venv", "Makefile", "pyproject.toml", "constraints.txt", "docs"):
        (tmp_path / name).symlink_to(PROJECT / name)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DIGITS_", "PREFECT_"))}
    environment = {
        **kept,
        "HOME": str(tmp_path),
        "DIGITS_HOME": str(tmp_path / "var"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (network,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "my_networks.py").write_text(network)
    tried = 0
    for command, expected in transcript():
        if command.startswith(TRIED_ELSEWHERE):
            continue
        # The test runs in the installed environment, so it must not be installed again.
        called = command.replace("make run", "make --old-file=.venv/installed run")
        done = subprocess.run(
            ["bash", "-c", called],
            check=False,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        rejected = "decision rejected" in {words(line) for line in expected}
        assert done.returncode == (3 if rejected else 0), done.stdout
        printed = {words(line) for line in done.stdout.splitlines()}
        # `make run` prints `.venv/bin/digits` when it is not on the path.
        printed |= {line.replace(".venv/bin/", "") for line in printed}
        for line in expected:
            assert words(line) in printed, f"$ {command}\n{line!r} is not in:\n{done.stdout}"
        tried += 1
    assert tried >= 5


@pytest.mark.parametrize("table", Base.metadata.tables)
def test_every_column_of_a_table_is_documented_and_no_other(table):
    chapters = re.split(r"^## ", (PROJECT / "docs/metrics.md").read_text(), flags=re.MULTILINE)
    (chapter,) = [text for text in chapters if text.startswith(f"{table}\n")]
    documented = re.findall(r"^\| `(\w+)` \|", chapter, re.MULTILINE)

    assert documented == [column.name for column in Base.metadata.tables[table].columns]


def commands(group, *names):
    """Each command below a group, with the words that call it."""
    for name, command in group.commands.items():
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


@pytest.mark.parametrize(("names", "command"), [*commands(cli, "digits")])
def test_every_command_and_option_is_documented(names, command):
    chapters = re.split(r"^##+ ", (PROJECT / "docs/cli.md").read_text(), flags=re.MULTILINE)
    (chapter,) = [text for text in chapters if text.startswith(f"`{' '.join(names)}`\n")]
    documented = set(re.findall(r"--[\w-]+", chapter))

    options = [p for p in command.params if isinstance(p, click.Option)]
    assert {option.opts[-1] for option in options} <= documented


def test_every_setting_is_documented_with_its_default():
    documented = dict(re.findall(r"^\| `(DIGITS_\w+)` \| ([^|]+) \|", README, re.MULTILINE))
    source = (PROJECT / "storage/settings.py").read_text()

    assert set(documented) == set(re.findall(r'"(DIGITS_\w+)"', source))
    defaults = read_settings({})
    assert documented["DIGITS_LEASE_S"] == f"{defaults.lease_s:g}"
    assert documented["DIGITS_KEEP_VERSIONS"] == f"{defaults.keep_versions}"


def test_no_setting_is_read_elsewhere():
    for package in ("flows", "serving", "tasks", "storage"):
        for path in (PROJECT / package).rglob("*.py"):
            if path != PROJECT / "storage/settings.py":
                assert not re.search(r"(environ|getenv).*DIGITS_", path.read_text()), path


def test_each_promise_names_existing_tests():
    _, *promises = re.split(r"^\*\*P", PROMISES, flags=re.MULTILINE)

    assert [int(promise.partition(".")[0]) for promise in promises] == list(range(1, 27))
    named = [
        re.findall(r"^- `(tests/[\w/]+\.py)::(\w+)`$", text, re.MULTILINE) for text in promises
    ]
    assert all(named)
    missing = [
        f"{path}::{test}"
        for path, test in chain(*named)
        if not (PROJECT / path).is_file() or f"def {test}(" not in (PROJECT / path).read_text()
    ]
    assert not missing


def test_links_and_paths_in_the_documents_exist():
    missing = []
    for document in [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]:
        text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
        links = [
            document.parent / link.partition("#")[0]
            for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", text)
        ]
        paths = [
            PROJECT / path
            for path in re.findall(r"`((?:flows|serving|tasks|storage|benchmarks)/[\w./-]+)`", text)
        ]
        missing += [f"{document.name}: {path}" for path in links + paths if not path.exists()]
    assert not missing


def test_every_error_is_in_the_tree_at_the_top_of_its_module():
    from storage import errors

    tree = errors.__doc__ or ""
    named = set(re.findall(r"\w+Error", tree))
    assert named == {name for name in vars(errors) if name.endswith("Error")}
    for name in named:
        two = "exit code 2" in next(line for line in tree.splitlines() if f"{name} " in line)
        assert getattr(errors, name).exit_code == (2 if two else 1), name


def test_flows_define_no_class():
    for path in (PROJECT / "flows").rglob("*.py"):
        assert not re.search(r"^class ", path.read_text(), re.MULTILINE), path
