"""Promise P17: no secret in a log, a row or an error."""

import pytest

LOGIN = "anna:hunter2"
SECRETS = {
    "DIGITS_API_TOKEN": "token-hunter2",
    "PREFECT_API_AUTH_STRING": LOGIN,
    "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
}


@pytest.mark.slow
def test_a_run_leaves_no_secret_in_its_output_or_in_any_file(digits, tmp_path, home):
    done = digits("retrain", "--dataset", "mnist-5k", "--epochs", "1", **SECRETS)

    assert done.returncode in {0, 3}, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert home / "metrics.db" in files
    assert any(path.name == "prefect.db" for path in files)
    for path in files:
        assert b"hunter2" not in path.read_bytes(), path


@pytest.mark.parametrize("command", [("history",), ("retrain", "--dataset", "mnist-5k")])
def test_an_unreachable_database_is_named_without_its_password(digits, command):
    url = "postgresql+psycopg2://digits:hunter2@127.0.0.1:1/metrics?password=hunter2"

    done = digits(*command, DIGITS_DATABASE_URL=url)

    assert done.returncode == 1
    assert "the metrics database postgresql+psycopg2://digits:***@127.0.0.1:1" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_an_invalid_api_token_is_refused_without_showing_it(digits):
    done = digits("serve", DIGITS_API_TOKEN="token hunter2")  # noqa: S106

    assert done.returncode == 2
    assert "DIGITS_API_TOKEN" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_the_address_of_a_webhook_is_not_shown_when_no_server_runs(digits):
    done = digits("notify", "http://127.0.0.1:9/services/hunter2")

    assert done.returncode == 1
    assert "digits up" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
