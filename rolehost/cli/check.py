"""`rolehost check`: whether the service definition is valid, and what it says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rolehost.cli.failures import FAILED, complain
from rolehost.cli.options import AsJson, Definition
from rolehost.cli.printing import print_json, print_table, printable
from rolehost.service_model import CONFIGURATION_VARIABLE, RoleModel, ServiceModel, examine, unsupported

Configuration = Annotated[
    Path | None,
    typer.Option(
        "--configuration",
        metavar="CSCFG",
        help=f"The configuration of a .csdef. By default what {CONFIGURATION_VARIABLE} names, else the one beside it.",
    ),
]

LoadRoles = Annotated[
    bool,
    typer.Option(
        "--load/--no-load", help="Whether the roles' entry points are imported, and their programs looked for."
    ),
]
Connect = Annotated[
    bool,
    typer.Option("--connect", help="Also try the stores: every verb, on names of its own that are removed again."),
]


def check(
    *,
    definition: Definition = None,
    configuration: Configuration = None,
    load_roles: LoadRoles = True,
    connect: Connect = False,
    as_json: AsJson = False,
) -> None:
    """Validate the service definition, with the environment over it: every problem is told.

    The definition is a service.toml, or a ServiceDefinition.csdef with its ServiceConfiguration.cscfg.
    """
    from rolehost.cli.role_checks import check_roles  # noqa: PLC0415 - `--help` needs none of it

    examined = examine(definition, os.environ, configuration=configuration)
    model = examined.model
    problems = [str(problem) for problem in examined.errors]
    warnings = [str(problem) for problem in examined.warnings]
    if model is not None:
        warnings += [str(replace(problem, warning=True)) for problem in unsupported(examined)]
        found = check_roles(examined, os.environ, load_roles=load_roles)
        warnings += [str(problem) for problem in found if problem.warning]
        problems += [str(problem) for problem in found if not problem.warning]
    if model is None or problems:
        _tell_problems(problems, warnings, as_json=as_json)
        raise typer.Exit(FAILED)
    if connect:
        from rolehost.cli.check_connect import check_connections  # noqa: PLC0415 - `--help` needs none of it

        environ = {**os.environ, **model.stores_over(os.environ)}
        raise typer.Exit(check_connections(model, environ).tell(_as_json(model), warnings, as_json=as_json))
    if as_json:
        print_json(_as_json(model) | {"warnings": warnings})
        return
    for warning in warnings:
        print(printable(warning))
    told = f", {_number(len(warnings), 'warning')}" if warnings else ""
    number = _number(len(model.roles), "role")
    print(f"{model.source or 'The built-in service'} is valid: service {model.name}, {number}{told}")
    rows = [(r.name, str(r.instances), _runs(r), _endpoints(r), ", ".join(r.settings)) for r in model.roles.values()]
    print_table(("ROLE", "INSTANCES", "ENTRY POINT", "ENDPOINTS", "SETTINGS"), rows)


def _tell_problems(problems: list[str], warnings: list[str], *, as_json: bool) -> None:
    if as_json:
        document: dict[str, object] = {"valid": False, "problems": problems}
        print_json(document | ({"warnings": warnings} if warnings else {}))
        return
    for problem in [*problems, *warnings]:
        print(printable(problem))
    complain(f"the service definition is not valid: {_number(len(problems), 'problem')}")


def _as_json(model: ServiceModel) -> dict[str, object]:
    roles = [
        {
            "name": role.name,
            "kind": role.kind,
            "entry_point": role.entry_point,
            "program": role.program,
            "worker": role.worker.to_table() if role.worker else None,
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


def _runs(role: RoleModel) -> str:
    if role.worker is not None and role.worker.program:
        return f"{role.worker.groups[0][0]} (jobs of the kind {role.worker.kind})"
    return role.entry_point or role.program


def _endpoints(role: RoleModel) -> str:
    return ", ".join(f"{name} {each.protocol}:{each.port}" for name, each in role.endpoints.items())


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
