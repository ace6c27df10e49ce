"""`rolehost check`: whether the service definition is valid, and what it says."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from rolehost.cli.failures import FAILED, complain
from rolehost.cli.options import AsJson, Definition
from rolehost.cli.printing import print_json, print_table
from rolehost.errors import EntryPointError, ServiceModelError
from rolehost.service_model import RoleModel, ServiceModel, load


def check(
    *,
    definition: Definition = None,
    load_roles: Annotated[bool, typer.Option("--load", help="Load the roles' entry points, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Validate the service definition, with the environment over it: every problem is told."""
    try:
        model = load(definition, os.environ)
        if load_roles:
            _load_roles(model)
    except ServiceModelError as error:
        _tell_problems(error.problems, as_json=as_json)
        raise typer.Exit(FAILED) from None
    if as_json:
        print_json(_as_json(model))
        return
    print(
        f"{model.source or 'The built-in service'} is valid: service {model.name}, {_number(len(model.roles), 'role')}"
    )
    rows = [
        (r.name, str(r.instances), r.entry_point, _endpoints(r), ", ".join(r.settings)) for r in model.roles.values()
    ]
    print_table(("ROLE", "INSTANCES", "ENTRY POINT", "ENDPOINTS", "SETTINGS"), rows)


def _load_roles(model: ServiceModel) -> None:
    from rolehost.entrypoint import load_entry_point  # noqa: PLC0415 - with it comes all that the roles import

    problems = []
    for role in model.roles.values():
        try:
            load_entry_point(role.entry_point, model.directory)
        except EntryPointError as error:
            problems.append(f"{role.name}: {error}")
    if problems:
        raise ServiceModelError(problems)


def _tell_problems(problems: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        print_json({"valid": False, "problems": list(problems)})
        return
    for problem in problems:
        print(problem)
    complain(f"the service definition is not valid: {_number(len(problems), 'problem')}")


def _as_json(model: ServiceModel) -> dict[str, object]:
    roles = [
        {
            "name": role.name,
            "entry_point": role.entry_point,
            "instances": role.instances,
            "endpoints": {
                name: {"protocol": each.protocol, "port": each.port} for name, each in role.endpoints.items()
            },
            "settings": sorted(role.settings),
            "local_resources": sorted(role.local_resources),
        }
        for role in model.roles.values()
    ]
    source = str(model.source) if model.source else None
    return {"valid": True, "problems": [], "definition": source, "service": model.name, "roles": roles}


def _endpoints(role: RoleModel) -> str:
    return ", ".join(f"{name} {each.protocol}:{each.port}" for name, each in role.endpoints.items())


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
