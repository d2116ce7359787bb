"""What differs between a deployment on the server and prefect.yaml, and which of them changed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse

Values = Mapping[str, Any]
NOT_SET = "not set"
SAME_NAME = ("description", "tags", "parameters", "work_pool_name", "job_variables")
# What a schedule of prefect.yaml may say besides when.
NOT_WHEN = {"active", "slug", "parameters"}


def changed_values(server: Values, known: Values, wanted: Values) -> dict[str, Any]:
    """The fields to update: lines that changed in prefect.yaml, in what the server has.

    Args:
        server: The deployment, as the server has it.
        known: Its definition in prefect.yaml when it was deployed.
        wanted: The definition now.
    """
    before, now, there = _flat(_file(known)), _flat(_file(wanted)), _flat(_server(server))
    merged = dict(there)
    for key in before.keys() | now.keys():
        always = key == ("job_variables", "env", "DIGITS_HOME")
        if always or before.get(key) != now.get(key):
            merged[key] = now.get(key)
    changed = [key for key in merged if merged[key] != there.get(key)]
    for key in sorted(changed):
        old, new = there.get(key, NOT_SET), NOT_SET if merged[key] is None else merged[key]
        click.echo(f"  {'.'.join(key)}: {old} -> {new}")
    fields = {"description": None, "tags": [], "parameters": {}} | _nested(merged)
    found = {key[0]: fields[key[0]] for key in changed}
    if "concurrency_limit" in found:
        options = found["concurrency_limit"]
        found["concurrency_limit"] = options.pop("limit", None)
        found["concurrency_options"] = options or None
    return found


def change_schedules(
    client: SyncPrefectClient,
    found: DeploymentResponse,
    known: Sequence[Values],
    wanted: Sequence[Values],
) -> None:
    """Follow the schedules that changed in prefect.yaml; the others stay as they are.

    A changed schedule keeps its id and its pause, so a night that was cancelled stays cancelled.
    """
    outdated = [schedule for schedule in known if schedule not in wanted]
    for new in wanted:
        if new in known:
            continue
        old = outdated.pop(0) if outdated else None
        match = _find(found.schedules, old) if old else None
        made = DeploymentScheduleCreate(
            schedule={name: value for name, value in new.items() if name not in NOT_WHEN},
            active=new.get("active", True),
        )
        if old and match:
            same = old.get("active", True) == made.active
            active = match.active if same else made.active
            client.update_deployment_schedule(found.id, match.id, active, made.schedule)
        else:
            client.create_deployment_schedules(found.id, [made])
        was = _words_of(match) if match else NOT_SET
        click.echo(f"  schedule: {was} -> {_words(new)}")
    for old in outdated:
        if match := _find(found.schedules, old):
            client.delete_deployment_schedule(found.id, match.id)
            click.echo(f"  schedule: {_words(old)} -> {NOT_SET}")


def differences(found: DeploymentResponse, wanted: Values) -> Iterator[str]:
    """What a person has set on the server, and prefect.yaml says otherwise; one line each."""
    if found.paused:
        yield f"{found.name} is paused: no night starts until it is resumed"
    now, there = _flat(_file(wanted)), _flat(_server(found.model_dump(mode="json")))
    for key in sorted(now.keys() | there.keys()):
        if now.get(key) != there.get(key):
            yield _kept(".".join(key), there.get(key, NOT_SET), now.get(key, NOT_SET))
    file = {_when(schedule): _words(schedule) for schedule in wanted.get("schedules") or []}
    server = {_when_of(schedule): _words_of(schedule) for schedule in found.schedules}
    for when in file | server:
        if file.get(when) != server.get(when):
            yield _kept("schedule", server.get(when, NOT_SET), file.get(when, NOT_SET))


def _kept(what: str, kept: object, file: object) -> str:
    return f"{what}: {kept} on the server is kept; {file} in prefect.yaml"


def _file(definition: Values) -> dict[str, Any]:
    limit = definition.get("concurrency_limit")
    return {
        "description": definition.get("description"),
        "tags": definition.get("tags"),
        "parameters": definition.get("parameters"),
        "work_pool_name": definition["work_pool"]["name"],
        "job_variables": definition["work_pool"].get("job_variables"),
        "concurrency_limit": limit if isinstance(limit, dict) else {"limit": limit},
    }


def _server(deployment: Values) -> dict[str, Any]:
    limit = deployment["global_concurrency_limit"] or {}
    options = deployment["concurrency_options"] or {}
    return {
        **{name: deployment[name] for name in SAME_NAME},
        "concurrency_limit": {
            "limit": limit.get("limit"),
            "collision_strategy": options.get("collision_strategy"),
        },
    }


def _flat(values: Values, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value that is set, by the names on the way to it."""
    flat: dict[tuple[str, ...], Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, (*above, name))
        elif value is not None:
            flat[*above, name] = value
    return flat


def _nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """The reverse of ``_flat``; a value of None is left out."""
    nested: dict[str, Any] = {}
    for (*above, name), value in flat.items():
        inner = nested
        for step in above:
            inner = inner.setdefault(step, {})
        if value is not None:
            inner[name] = value
    return nested


def _find(schedules: Sequence[DeploymentSchedule], old: Values) -> DeploymentSchedule | None:
    """The server's schedule that prefect.yaml described so; else the only one there is."""
    same = [schedule for schedule in schedules if _when_of(schedule) == _when(old)]
    return next(iter(same or (schedules if len(schedules) == 1 else [])), None)


def _words_of(schedule: DeploymentSchedule) -> str:
    return _when_of(schedule) + ("" if schedule.active else " (paused)")


def _when_of(schedule: DeploymentSchedule) -> str:
    return _when(schedule.schedule.model_dump(mode="json"))


def _words(schedule: Values) -> str:
    return _when(schedule) + ("" if schedule.get("active", True) else " (paused)")


def _when(schedule: Values) -> str:
    interval = schedule.get("interval")
    when = f"every {float(interval):g} s" if interval else schedule.get("cron") or schedule["rrule"]
    return f"{when} {schedule.get('timezone') or 'UTC'}"
