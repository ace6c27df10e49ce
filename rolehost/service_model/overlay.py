"""The environment over the definition: settings, instance counts and times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rolehost.service_model.model import TIMES, RecycleBackoff, RoleModel, ServiceModel, frozen
from rolehost.service_model.problems import Problem, Problems, suggest
from rolehost.service_model.rules import scaling_refusals
from rolehost.service_model.values import MOST_SECONDS, SETTING, check_value

_SETTING = "ROLEHOST_SETTING_"
_INSTANCES = "ROLEHOST_INSTANCES_"
_VARIABLE = re.compile(r"%(\w+)%|\$[({](\w+)[)}]")
_BACKOFF = "ROLEHOST_RECYCLE_BACKOFF"


def overlay(model: ServiceModel, environ: Mapping[str, str]) -> tuple[ServiceModel, list[Problem]]:
    """The model with the environment's values, and what is wrong with those.

    Args:
        model: as the definition says it.
        environ: `ROLEHOST_SETTING_<NAME>` (dots as `__`, any case) for every role, `ROLEHOST_INSTANCES_<ROLE>`, and the
            service's times, as `ROLEHOST_DRAIN_SECONDS`; and what the paths of contents name.
    """
    problems: list[Problem] = []
    counts = _counts(model, environ, problems)
    settings = _settings(environ, problems)
    times = _times(environ, problems)
    roles = {name: _role(role, settings, counts, environ) for name, role in model.roles.items()}
    return replace(model, roles=frozen(roles), **times), problems


def _role(
    role: RoleModel, settings: Mapping[str, str], counts: Mapping[str, int], environ: Mapping[str, str]
) -> RoleModel:
    declared = {name.casefold(): name for name in role.settings}
    named = {declared.get(name.casefold(), name): value for name, value in settings.items()}
    return replace(
        role,
        settings=frozen({**role.settings, **named}),
        masked=frozen({name: value for name, value in role.settings.items() if name in named}),
        undeclared=frozenset(named.keys() - role.settings.keys()),
        instances=counts.get(role.name, role.instances),
        contents=frozen({name: _expanded(path, environ) for name, path in role.contents.items()}),
    )


def _expanded(path: Path, environ: Mapping[str, str]) -> Path:
    # As the original's tools took it; what isn't set stays as it is, and is told to be missing.
    def value(found: re.Match[str]) -> str:
        return environ.get(found[1] or found[2], found[0])

    return Path(_VARIABLE.sub(value, str(path)))


def _settings(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, str]:
    settings = {}
    for variable, value in environ.items():
        if not variable.upper().startswith(_SETTING):
            continue
        name = variable[len(_SETTING) :].replace("__", ".")
        if not SETTING.fullmatch(name):
            problems.append(Problem("N05", f'"{name}" is no name of a setting', variable))
            continue
        notes = Problems(variable)
        check_value(notes, (name,), value)
        problems.extend(notes.found)
        settings[name] = value
    return settings


def _counts(model: ServiceModel, environ: Mapping[str, str], problems: list[Problem]) -> dict[str, int]:
    counts = {}
    for variable, value in environ.items():
        if not variable.upper().startswith(_INSTANCES):
            continue
        roles = _roles_named(model, variable[len(_INSTANCES) :])
        if len(roles) != 1:
            hint = suggest(variable[len(_INSTANCES) :], model.roles)
            told = f"this may be each of {', '.join(roles)}" if roles else f"the service has no such role{hint}"
            problems.append(Problem("M07", told, variable))
            continue
        count = int(value) if re.fullmatch(r"[0-9]{1,9}", value) else value
        refused = scaling_refusals(model.roles[roles[0]], count)
        problems += [Problem(code, told, variable) for code, told in refused]
        if not refused:
            counts[roles[0]] = int(count)
    return counts


def _roles_named(model: ServiceModel, word: str) -> list[str]:
    # A variable can't hold every character of a role's name: - and . stand as _.
    return [name for name in model.roles if re.sub(r"[.-]", "_", name.casefold()) == word.casefold()]


def _times(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for field in TIMES:
        variable = f"ROLEHOST_{field.upper()}"
        if (text := environ.get(variable)) is None:
            continue
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) and 0 < float(text) <= MOST_SECONDS:
            facts[field] = float(text)
        else:
            problems.append(
                Problem("N04", f"this is a number of seconds above 0, at most {MOST_SECONDS}, not {text!r}", variable)
            )
    if (text := environ.get(_BACKOFF)) is not None:
        if text in {*RecycleBackoff}:
            facts["recycle_backoff"] = RecycleBackoff(text)
        else:
            known = ", ".join(RecycleBackoff)
            problems.append(Problem("M21", f"recycle back-off is one of {known}, not {text!r}", _BACKOFF))
    return facts
