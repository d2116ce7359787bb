"""Which deployments and work pools of a Prefect server belong to this installation.

An installation is a checkout with its DIGITS_HOME. The first on a server has the names of
prefect.yaml; those of another one end with a code of their own.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from storage.errors import ServerError
from storage.settings import PROJECT, Settings

FLOW = "retrain"
FOLDER_STEP = "prefect.deployments.steps.set_working_directory"


def read_prefect_yaml(
    client: SyncPrefectClient, settings: Settings, environment: Mapping[str, str]
) -> dict[str, Any]:
    """What prefect.yaml defines, with this installation's names, folder and DIGITS_HOME.

    Raises:
        ServerError: If the file is not what Prefect expects.
    """
    file = _read(PROJECT / "prefect.yaml", environment)
    code = _code(client, [deployment["name"] for deployment in file["deployments"]], settings)
    for deployment in file["deployments"]:
        deployment["name"] += code
        pool = deployment["work_pool"]
        pool["name"] += code
        variables = pool.setdefault("job_variables", {}).setdefault("env", {})
        variables["DIGITS_HOME"] = str(settings.home)
    return file


def _read(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    text = path.read_text()
    text = re.sub(r"\{\{ *\$(\w+) *\}\}", lambda found: environment.get(found[1], ""), text)
    try:
        # Through JSON, as which it is remembered: YAML has dates.
        file: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(text), default=str))
        for deployment in file["deployments"]:
            _ = deployment["name"], deployment["entrypoint"], deployment["work_pool"]["name"]
        _ = file["deployments"][0]
    except (yaml.YAMLError, LookupError, TypeError) as error:
        raise ServerError(
            f"expected deployments with a name, an entrypoint and a work_pool in {path}, received"
            f" {type(error).__name__}: {' '.join(str(error).split())}; correct the file"
        ) from error
    return file


def find_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """The deployment of the flow with this name; None if there is none."""
    try:
        return client.read_deployment_by_name(f"{FLOW}/{name}")
    except ObjectNotFound:
        return None


def _code(client: SyncPrefectClient, names: list[str], settings: Settings) -> str:
    """What this installation appends to the names: nothing, unless another one has them."""
    digest = hashlib.sha256(f"{PROJECT}\n{settings.home}".encode()).hexdigest()
    code = f"-{digest[:6]}"
    if any(find_deployment(client, name + code) for name in names):
        return code
    for name in names:
        found = find_deployment(client, name)
        folder, home = _owner(found) if found else (None, None)
        if (folder is None or Path(folder).resolve() == PROJECT) and home in {
            None,
            str(settings.home),
        }:
            continue
        owner = f"{FLOW}/{name} belongs to {folder}" + (f" with DIGITS_HOME={home}" if home else "")
        if _is_here(client) and (_is_gone(folder) or _is_gone(home)):
            click.echo(f"{owner}, which is gone; this installation takes it over.")
            continue
        click.echo(f"{owner}; this installation has {FLOW}/{name}{code}.")
        return code
    return ""


def _owner(deployment: DeploymentResponse) -> tuple[str | None, str | None]:
    """Checkout and DIGITS_HOME of a deployment, as far as it says so."""
    steps = [step.get(FOLDER_STEP) for step in deployment.pull_steps or []]
    folder = next((step["directory"] for step in steps if step), None)
    return folder, deployment.job_variables.get("env", {}).get("DIGITS_HOME")


def _is_here(client: SyncPrefectClient) -> bool:
    """Whether the server is on this machine; the folders of another one cannot be looked for."""
    return client.api_url.host in {"127.0.0.1", "localhost", "::1"}


def _is_gone(folder: str | None) -> bool:
    """Whether there is no such folder; one that may not be looked at is there."""
    try:
        return folder is not None and not Path(folder).stat()
    except PermissionError:
        return False
    except OSError:
        return True
