"""The environment over the definition: settings, instance counts and times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rolehost.service_model.model import RoleModel, ServiceModel, frozen
from rolehost.service_model.problems import Problem, Problems, suggest
from rolehost.service_model.values import check_value

_SETTING = "ROLEHOST_SETTING_"
_INSTANCES = "ROLEHOST_INSTANCES_"
_TIMES = {
    "ROLEHOST_DRAIN_SECONDS": "drain_seconds",
    "ROLEHOST_ON_STOP_SECONDS": "on_stop_seconds",
    "ROLEHOST_RECYCLE_SECONDS": "recycle_seconds",
    "ROLEHOST_HEARTBEAT_SECONDS": "heartbeat_seconds",
}


def overlay(model: ServiceModel, environ: Mapping[str, str]) -> tuple[ServiceModel, list[Problem]]:
    """The model with the environment's values, and what is wrong with those.

    Args:
        model: as the definition says it.
        environ: `ROLEHOST_SETTING_<NAME>` (dots as `__`, any case) for every role, `ROLEHOST_INSTANCES_<ROLE>`, and the
            service's times, as `ROLEHOST_DRAIN_SECONDS`.
    """
    problems: list[Problem] = []
    counts = _counts(model, environ, problems)
    settings = _settings(environ, problems)
    times = _times(environ, problems)
    roles = {name: _role(role, settings, counts) for name, role in model.roles.items()}
    return replace(model, roles=frozen(roles), **times), problems


def _role(role: RoleModel, settings: Mapping[str, str], counts: Mapping[str, int]) -> RoleModel:
    declared = {name.casefold(): name for name in role.settings}
    named = {declared.get(name.casefold(), name): value for name, value in settings.items()}
    return replace(
        role,
        settings=frozen({**role.settings, **named}),
        masked=frozenset(named.keys() & role.settings.keys()),
        instances=counts.get(role.name, role.instances),
    )


def _settings(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, str]:
    settings = {}
    for variable, value in environ.items():
        if not variable.upper().startswith(_SETTING):
            continue
        name = variable[len(_SETTING) :].replace("__", ".")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name):
            problems.append(Problem("N05", f'"{name}" is no name of a setting', variable))
            continue
        notes = Problems(variable)
        check_value(notes, (name,), value)
        problems.extend(notes.found)
        settings[name] = value
    return settings


def _counts(model: ServiceModel, environ: Mapping[str, str], problems: list[Problem]) -> dict[str, int]:
    # A variable can't hold every character of a role's name: - and . stand as _.
    by_variable = {re.sub(r"[.-]", "_", name.upper()): name for name in model.roles}
    counts = {}
    for variable, value in environ.items():
        if not variable.upper().startswith(_INSTANCES):
            continue
        role = by_variable.get(variable[len(_INSTANCES) :].upper())
        if role is None:
            hint = suggest(variable[len(_INSTANCES) :], model.roles)
            problems.append(Problem("M07", f"the service has no such role{hint}", variable))
        elif not re.fullmatch(r"[1-9][0-9]{0,2}", value):
            problems.append(Problem("M24", f"a number of instances is from 1 to 999, not {value!r}", variable))
        else:
            counts[role] = int(value)
    return counts


def _times(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    times = {}
    for variable, field in _TIMES.items():
        if (text := environ.get(variable)) is None:
            continue
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) and float(text) > 0:
            times[field] = float(text)
        else:
            problems.append(Problem("N04", f"this is a number of seconds above 0, not {text!r}", variable))
    return times
