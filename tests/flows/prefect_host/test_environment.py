"""Variables that another project left in the environment."""

import json
import signal
import ssl
import subprocess
import sys
import warnings
from pathlib import Path

import certifi
import pytest

from flows.prefect_host.environment import repair_environment

PREFECT = str(Path(sys.executable).with_name("prefect"))
LOOPBACK = "127.0.0.1,localhost,::1"


def test_no_proxy_comes_between_digits_and_this_machine():
    environment = {"HTTP_PROXY": "proxy.example.com:3128", "NO_PROXY": "intranet, 10.0.0.1"}

    repair_environment(environment)

    assert environment["HTTP_PROXY"] == "proxy.example.com:3128", "downloads need it"
    assert environment["NO_PROXY"] == f"intranet,10.0.0.1,{LOOPBACK}"
    assert environment["no_proxy"] == environment["NO_PROXY"], "the lower case wins in Python"


def test_an_environment_without_proxies_stays_as_it_is():
    for environment in ({"PATH": "/bin"}, {"NO_PROXY": "intranet"}, {"https_proxy": "socks5://x"}):
        kept = {name: value for name, value in environment.items() if name != "https_proxy"}
        repair_environment(environment)
        assert environment == kept


def test_no_proxy_for_all_hosts_stays_so():
    environment = {"HTTPS_PROXY": "http://proxy.example.com:3128", "no_proxy": "*"}
    repair_environment(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "*"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://anna:secret@127.0.0.1:1080"),
        ("all_proxy", "socks5h://127.0.0.1:1080"),
        ("HTTP_PROXY", "http://anna:secret@proxy:80a"),
        ("https_proxy", "ftp://secret"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("PREFECT_API_SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("SSL_CERT_FILE", __file__),
        ("PYTHONWARNINGS", "error::DeprecationWarning"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_and_removed(capsys, name, value):
    environment = {name: value}

    with warnings.catch_warnings():
        repair_environment(environment)

    assert environment == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name} is ignored: ")
    assert "secret" not in line


def test_certificates_that_can_be_read_are_used():
    environment = {"SSL_CERT_FILE": certifi.where()}
    repair_environment(environment)
    assert ssl.create_default_context(cafile=environment["SSL_CERT_FILE"]).get_ca_certs()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_night_in_the_environment_of_other_projects_trains_the_same_weights(
    started, digits, environment, tmp_path, free_port
):
    keras = tmp_path / "keras"
    keras.mkdir()
    others = {"floatx": "float16", "backend": "jax", "image_data_format": "channels_first"}
    (keras / "keras.json").write_text(json.dumps({**others, "epsilon": 0.1}))
    left = {
        "HTTP_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
        "ALL_PROXY": "socks5://127.0.0.1:9", "SSL_CERT_FILE": "/nowhere/ca.pem",
        "KERAS_HOME": str(keras), "KERAS_BACKEND": "torch", "KERAS_MAX_EPOCHS": "1",
        "MPLBACKEND": "nonsense", "PYTHONWARNINGS": "error",
        "XLA_FLAGS": "--xla_flag_of_jax=1",
    }  # fmt: skip
    recipe = {"dataset": "mnist-5k", "epochs": 2, "seed": 5, "min_accuracy": 0.5, "min_recall": 0}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in recipe.items()]
    up = started("up", "--port", str(free_port), **left)
    up.wait_for("started!")
    for name in ("ALL_PROXY", "SSL_CERT_FILE", "PYTHONWARNINGS"):
        assert up.output.count(f"{name} is ignored") == 1

    parameters = [part for n, v in recipe.items() for part in ("-p", f"{n}={json.dumps(v)}")]
    done = subprocess.run(
        [PREFECT, "deployment", "run", "retrain/nightly", *parameters, "--watch"],
        check=False, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + up.output
    here = digits("retrain", *options, "--name", "here", **left)
    clean = digits("retrain", *options, "--name", "clean", TF_ENABLE_ONEDNN_OPTS="0")

    assert here.returncode == clean.returncode == 0, here.stderr + clean.stderr
    night, here_row, clean_row = json.loads(digits("history", "--json").stdout)[::-1]
    assert night["weights_digest"] == here_row["weights_digest"]
    assert clean_row["environment"]["TF_ENABLE_ONEDNN_OPTS"] == "0"
    like = digits("retrain", "--like", here_row["run_id"], TF_ENABLE_ONEDNN_OPTS="0")
    assert "TF_ENABLE_ONEDNN_OPTS (not set, now 0)" in like.stdout
    assert up.stop(signal.SIGTERM) == 0
