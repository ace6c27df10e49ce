"""A model as the tables of a `service.toml`, whichever files it came from: nothing of it is lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

from rolehost.service_model.model import (
    DIAGNOSTIC_STORE,
    InputEndpoint,
    PortRange,
    RoleModel,
    ServiceModel,
    StartupTask,
)
from rolehost.service_model.worker import CONFIGURED
from rolehost.service_model.writing import write_native

_PARTS = ("local_resources", "endpoints", "internal_endpoints", "instance_input_endpoints", "certificates")
_ELSEWHERE = (
    *("settings", "masked", "undeclared", "environment", "instance_values"),
    *("startup_tasks", "contents", "worker"),
)


def write_model(model: ServiceModel, comments: Iterable[str] = ()) -> str:
    """The text of a `service.toml` that says all that the model does.

    Settings stand in it as the definition has them: read with the same environment it is the same model, and what only
    the environment knows is not written to a disk. Where it lies says nothing of `ServiceModel.directory`: that is
    given to `load`.

    Args:
        model: any model.
        comments: lines for its beginning.
    """
    unmapped = [role.name for role in model.roles.values() if not role.entry_point and not role.program]
    return write_native(document_of(model), comments, unmapped)


def document_of(model: ServiceModel) -> dict[str, Any]:
    """The tables of a `service.toml` that says all that the model does."""
    service = {"name": model.name, **_said(model, ("roles", "probes", "hooks", "source", "directory", "configuration"))}
    if model.probes:
        service["probes"] = {name: _said(probe) for name, probe in model.probes.items()}
    document = {"service": service, "roles": {name: _role(role) for name, role in model.roles.items()}}
    hooks = {name: hook.to_table() for name, hook in model.hooks.items()}
    return document | ({"hooks": hooks} if hooks else {})


def _role(role: RoleModel) -> dict[str, Any]:
    table = {key: value for key, value in _said(role, (*_ELSEWHERE, *_PARTS)).items() if value != ""}
    if role.worker is not None:
        table["worker"] = role.worker.to_table()
        if role.entry_point == CONFIGURED:
            del table["entry_point"]
    if settings := role.declared_settings():
        table["settings"] = dict(settings)
    if contents := {name: str(source) for name, source in role.contents.items()}:
        table["contents"] = contents
    if variables := _variables(role):
        table["environment"] = variables
    if role.startup_tasks:
        table["startup"] = [_task(task) for task in role.startup_tasks]
    for key in _PARTS:
        parts = {name: _part(each) for name, each in getattr(role, key).items() if each != DIAGNOSTIC_STORE}
        if parts:
            table[key] = parts
    return table


def _part(part: Any) -> dict[str, Any]:
    table = {key: value for key, value in _said(part).items() if value != ""}
    if isinstance(part, InputEndpoint) and part.local_port == 0:
        table["local_port"] = "*"
    return table


def _task(task: StartupTask) -> dict[str, Any]:
    table = {
        "command": task.command_line,
        **_said(task, ("command_line", "task_type", "environment", "instance_values")),
    }
    table["type"] = str(task.task_type)
    if variables := _variables(task):
        table["environment"] = variables
    return table


def _variables(of: RoleModel | StartupTask) -> dict[str, Any]:
    return {**of.environment, **{name: {"xpath": path} for name, path in of.instance_values.items()}}


def _said(part: Any, elsewhere: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields that differ from their defaults, under the names that they have in the file."""
    said = [field for field in fields(part) if field.name not in (*elsewhere, "name")]
    return {
        field.name: _plain(getattr(part, field.name)) for field in said if getattr(part, field.name) != _default(field)
    }


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _plain(value: Any) -> Any:
    if isinstance(value, PortRange):
        return [value.first, value.last]
    return str(value) if isinstance(value, str) else value
