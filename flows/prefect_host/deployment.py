"""Create the deployments, and later change only what prefect.yaml changed: the rest is a person's.

After the first time the server may differ from the file, because a person paused a schedule or
edited a parameter in the UI. `digits up` remembers the file it deployed, so it can tell which of
the two has changed.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import click
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import ValidationError

from flows.prefect_host.differences import change_schedules, changed_values, differences
from flows.prefect_host.installation import FLOW, find_deployment, read_prefect_yaml
from flows.prefect_host.processes import run_prefect
from storage.errors import ServerError
from storage.models.files import replace
from storage.provenance import read_provenance
from storage.settings import PROJECT, Settings

# Prefect's form is made from the flow's signature. Its own process, because it imports NumPy.
FORM = "parameter_openapi_schema"
READ_SIGNATURE = """
import sys
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
print(parameter_schema(load_flow_from_entrypoint(sys.argv[1])).model_dump_json())
"""


def deploy(settings: Settings, environment: dict[str, str]) -> tuple[str, str]:
    """Create the pools and deployments of prefect.yaml that are missing, and update the others.

    Each change is printed, and each difference from the file that is kept.

    Returns:
        Full name of the first deployment, and its work pool.

    Raises:
        ServerError: If prefect.yaml is not valid.
    """
    memory = settings.home / "deployed.json"
    with get_client(sync_client=True) as client:
        file = read_prefect_yaml(client, settings, environment)
        known = json.loads(memory.read_text()) if memory.exists() else {}
        for definition in file["deployments"]:
            _prepare_pool(client, definition["work_pool"]["name"], environment)
            found = find_deployment(client, definition["name"])
            if found is None:
                _create({**file, "deployments": [definition]}, environment)
                found = find_deployment(client, definition["name"])
            else:
                code = _code_values(definition, file, environment)
                _update(client, found, code, known.get(str(found.id), definition), definition)
            if found:
                known[str(found.id)] = definition
        replace(memory, json.dumps(known).encode())
        memory.chmod(0o600)  # a variable of prefect.yaml may be a secret
    first = file["deployments"][0]
    return f"{FLOW}/{first['name']}", first["work_pool"]["name"]


def _prepare_pool(client: SyncPrefectClient, name: str, environment: dict[str, str]) -> None:
    try:
        if client.read_work_pool(name).is_paused:
            click.echo(f"  work pool {name} is paused: no night starts until it is resumed")
    except ObjectNotFound:
        run_prefect(["work-pool", "create", name, "--type", "process"], environment)


def _create(file: dict[str, Any], environment: dict[str, str]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as copy:
        yaml.safe_dump(file, copy)
        copy.flush()
        run_prefect(["--no-prompt", "deploy", "--all", "--prefect-file", copy.name], environment)


def _update(
    client: SyncPrefectClient,
    found: DeploymentResponse,
    code: dict[str, Any],
    known: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> None:
    server = found.model_dump(mode="json")
    changes = {name: value for name, value in code.items() if server[name] != value}
    for name, value in changes.items():
        change = "updated" if name == FORM else f"{server[name]} -> {value}"
        click.echo(f"  {name}: {change}")
    try:
        changes |= changed_values(server, known, wanted)
        if changes:
            client.update_deployment(found.id, DeploymentUpdate(**changes))
        change_schedules(client, found, known.get("schedules") or [], wanted.get("schedules") or [])
    except (ValidationError, PrefectHTTPStatusError) as error:
        raise ServerError(
            f"expected prefect.yaml to define a valid deployment {found.name}, received:"
            f" {' '.join(str(error).split())}; correct the file"
        ) from error
    for line in differences(client.read_deployment(found.id), wanted):
        click.echo(f"  {line}")


def _code_values(
    definition: Mapping[str, Any], file: Mapping[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    """What follows the code, whatever a person has set."""
    commit = read_provenance(None).code_commit
    return {
        "entrypoint": definition["entrypoint"],
        "pull_steps": definition.get("pull", file.get("pull")),
        FORM: _form(definition["entrypoint"], environment),
        **({"version": commit[:8]} if commit else {}),
    }


def _form(entrypoint: str, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", READ_SIGNATURE, entrypoint],
        check=False, cwd=PROJECT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode != 0:
        raise ServerError(f"expected to import {entrypoint}, received:\n{done.stderr}")
    form: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {name: value for name, value in form.items() if value}  # as `prefect deploy` sends it
