import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from storage.errors import InvalidParameterError
from storage.settings import read_settings

PROJECT = Path(__file__).resolve().parents[2]


def test_home_is_var_in_the_projects_folder_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings({})
    assert settings.home == PROJECT / "var"
    assert make_url(settings.database_url).database == str(PROJECT / "var" / "metrics.db")
    assert settings.models == PROJECT / "var" / "models"
    assert settings.lease_s == 120.0
    assert settings.keep_versions == 10


def test_digits_home_moves_everything_and_may_start_with_a_tilde_or_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for given_home in ("~/d", "d", str(tmp_path / "d")):
        settings = read_settings({"DIGITS_HOME": given_home})
        assert settings.home == settings.models.parent == tmp_path / "d"
        assert make_url(settings.database_url).database == str(tmp_path / "d" / "metrics.db")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIGITS_HOME", "d"),
        ("DIGITS_MODELS_URL", "d"),
        ("DIGITS_DATABASE_URL", "sqlite:///d"),
    ],
)
def test_a_worker_refuses_a_relative_path_because_its_runs_start_elsewhere(
    name: str, value: str
) -> None:
    read_settings({name: value})
    with pytest.raises(InvalidParameterError, match=f"received 'd'; start .* with {name}"):
        read_settings({name: value, "PREFECT__FLOW_RUN_ID": "c0ffee"})


@pytest.mark.parametrize("name", ["a b", "a#b", "50%", "é", "a&b=c", "a+b", "a@b:c"])
def test_digits_home_may_contain_characters_with_a_meaning_in_urls(
    tmp_path: Path, name: str
) -> None:
    settings = read_settings({"DIGITS_HOME": str(tmp_path / name)})
    url = make_url(settings.database_url)
    assert url.database == str(tmp_path / name / "metrics.db")
    assert not url.query


def test_a_home_with_a_question_mark_is_refused_because_a_database_url_cannot_contain_it() -> None:
    with pytest.raises(InvalidParameterError, match=r"^DIGITS_HOME: expected .*received .*a\?b"):
        read_settings({"DIGITS_HOME": "/srv/a?b"})


def test_a_home_whose_name_is_not_utf_8_is_refused_because_json_cannot_hold_it() -> None:
    with pytest.raises(InvalidParameterError, match="DIGITS_HOME: expected a folder, received"):
        read_settings({"DIGITS_HOME": os.fsdecode(b"/srv/caf\xe9")})


def test_an_empty_variable_counts_as_not_set() -> None:
    names = ("DIGITS_HOME", "DIGITS_DATABASE_URL", "DIGITS_MODELS_URL", "DIGITS_LEASE_S")
    assert read_settings(dict.fromkeys(names, "")) == read_settings({})


def test_database_and_models_can_each_be_moved_elsewhere(tmp_path: Path) -> None:
    settings = read_settings(
        {
            "DIGITS_HOME": "/srv/digits",
            "DIGITS_DATABASE_URL": "postgresql://db.example/digits",
            "DIGITS_MODELS_URL": f"file://{tmp_path}/my%20models",
        }
    )
    assert settings.database_url == "postgresql://db.example/digits"
    assert settings.models == tmp_path / "my models"
    assert read_settings({"DIGITS_MODELS_URL": str(tmp_path)}).models == tmp_path


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/models", "https://example.org/models", "file://elsewhere/models", "file://"],
)
def test_a_models_url_that_is_not_a_local_folder_is_refused(url: str) -> None:
    with pytest.raises(InvalidParameterError) as refused:
        read_settings({"DIGITS_MODELS_URL": url})
    message = str(refused.value)
    assert message.startswith("DIGITS_MODELS_URL: expected a folder or a file:// URL")
    assert "received" in message
    assert "\n" not in message


def test_the_error_about_a_models_url_does_not_show_its_password() -> None:
    with pytest.raises(InvalidParameterError) as refused:
        read_settings({"DIGITS_MODELS_URL": "s3://key:hunter2@bucket/models"})
    assert "hunter2" not in str(refused.value)


@given(seconds=st.floats(allow_nan=False))
def test_a_lease_lasts_from_one_second_to_one_day(seconds: float) -> None:
    environment = {"DIGITS_LEASE_S": repr(seconds)}
    if 1 <= seconds <= 86400:
        assert read_settings(environment).lease_s == seconds
    else:
        with pytest.raises(InvalidParameterError, match=r"^DIGITS_LEASE_S: expected .*received .*"):
            read_settings(environment)


@pytest.mark.parametrize("text", ["soon", "nan", " ", "1 minute", str(math.inf), "0", "-5"])
def test_a_lease_that_is_not_a_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError, match=f"received {text!r}"):
        read_settings({"DIGITS_LEASE_S": text})


@pytest.mark.parametrize("text", ["0", "1001", "-1", "ten", "2.5", "nan"])
def test_keeping_fewer_than_1_or_more_than_1000_versions_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError, match=f"from 1 to 1000, received '{text}'"):
        read_settings({"DIGITS_KEEP_VERSIONS": text})


def test_the_number_of_versions_to_keep_can_be_set() -> None:
    assert read_settings({"DIGITS_KEEP_VERSIONS": "1"}).keep_versions == 1


@pytest.mark.parametrize("token", ["k-ü", "two words", "line\n", "\x7f"])
def test_a_token_that_a_header_cannot_carry_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"^DIGITS_API_TOKEN: expected") as refused:
        read_settings({"DIGITS_API_TOKEN": token})
    assert token not in str(refused.value)


def test_settings_printed_in_a_log_or_traceback_show_no_secret() -> None:
    settings = read_settings(
        {
            "DIGITS_DATABASE_URL": "postgresql://digits:hunter2@db.example/digits",
            "DIGITS_API_TOKEN": "correct-horse",
        }
    )
    assert "hunter2" not in repr(settings)
    assert "correct-horse" not in repr(settings)
