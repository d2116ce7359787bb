"""Environment variables of other projects that would keep digits from its own Prefect server."""

import os
import ssl
import warnings
from collections.abc import MutableMapping
from contextlib import suppress

import click
import httpx

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
CERTIFICATES = ("SSL_CERT_FILE", "PREFECT_API_SSL_CERT_FILE")
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


def repair_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove what httpx and Prefect cannot use, and let no proxy come between us and this machine.

    Each variable that is removed is named on standard error, without its value: a proxy's URL may
    contain a password. Downloads, and a Prefect server elsewhere, use the other proxies.
    """
    for name in list(environment):
        if reason := _unusable(name, environment[name]):
            del environment[name]
            if name == "PYTHONWARNINGS":
                warnings.simplefilter("ignore")
            click.echo(f"{name} is ignored: {reason}", err=True)
    if any(name.lower() in PROXIES for name in environment):
        given = environment.get("no_proxy", environment.get("NO_PROXY", ""))
        hosts = [host.strip() for host in given.split(",") if host.strip()]
        if "*" not in hosts:
            given = ",".join(dict.fromkeys([*hosts, *THIS_MACHINE]))
        environment["NO_PROXY"] = environment["no_proxy"] = given


def _unusable(name: str, value: str) -> str | None:
    """Why a variable cannot be used; None if it can, or is of another kind."""
    if value and name.lower() in PROXIES:
        with suppress(ValueError, httpx.InvalidURL):
            proxy = httpx.Proxy(value if "://" in value else f"http://{value}")
            if proxy.url.scheme in {"http", "https"} and proxy.url.host:
                return None
        return "expected a proxy such as http://proxy.example.com:3128, received another kind"
    if name == "PYTHONWARNINGS" and "error" in value:
        return "a warning of a library would end the run"
    if value and name in CERTIFICATES:
        try:
            ssl.create_default_context(cafile=value)
        except OSError as error:
            return f"expected a file with certificates, received {value} ({error.strerror})"
    return None
