"""What a valid definition still can't run with: entry points, shipped settings, console applications, endpoints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from rolehost.cli.program_checks import check_programs
from rolehost.cli.role_settings import SHIPPED, check_settings, readers_of, setting_variables
from rolehost.errors import EntryPointError
from rolehost.service_model import Examined, Problem, RoleModel, ServiceModel
from rolehost.service_model.problems import Keys, suggest

if TYPE_CHECKING:
    from rolehost.entrypoint import RoleEntryPoint

FRONT_END = "rolehost.frontend.role:ThumbnailFrontend"
FRONT_END_ENDPOINT = "Http"

Classes = Mapping[str, "type[RoleEntryPoint]"]


def check_roles(examined: Examined, environ: Mapping[str, str], *, load_roles: bool) -> list[Problem]:
    """What would keep the roles from running, and what they would pass over.

    Args:
        examined: a definition without errors.
        environ: the variables that went over it.
        load_roles: import the entry points, and look at the classes and at the programs of startup tasks.
    """
    model = examined.model
    if model is None:
        return []
    classes: dict[str, type[RoleEntryPoint]] = {}
    found = list(_load(examined, model, classes)) if load_roles else []
    for role in model.roles.values():
        keys = ("roles", role.name, "entry_point")
        if lacks_endpoint(role, classes):
            told = f'the role serves HTTP, but declares no endpoint "{FRONT_END_ENDPOINT}"'
            found.append(_problem(examined, "N14", keys, f"{told}{suggest(FRONT_END_ENDPOINT, role.endpoints)}"))
        found += list(_declared(examined, role, model, load_roles=load_roles))
        if role.name in classes:
            found += [_problem(examined, "N13", keys, told) for told in _of_class(role, classes[role.name], model)]
            for name, told in check_settings(role, classes[role.name], environ):
                found.append(_problem(examined, "N12", ("roles", role.name, "settings", name), told))
        if load_roles:
            programs = check_programs(role, model, environ)
            found += [examined.problem("N15", where, f"{role.name}: {told}", warning=True) for where, told in programs]
    found += _variables(model, environ, classes)
    found += [examined.problem("N20", where, f"{where[1]}: {told}", warning=True) for where, told in _hooks(model)]
    files = [examined.file, *(problem.file for problem in found if problem.line)]
    return sorted(found, key=lambda each: (files.index(each.file) if each.file in files else len(files), each.line))


def _hooks(model: ServiceModel) -> Iterator[tuple[Keys, str]]:
    if model.hooks:
        from rolehost.cli.hook_checks import check_hooks  # noqa: PLC0415 - with it comes the front end

        yield from check_hooks(model)


def _declared(examined: Examined, role: RoleModel, model: ServiceModel, *, load_roles: bool) -> Iterator[Problem]:
    """What a worker's table promises, and the machine doesn't keep."""
    if role.worker is None:
        return
    from rolehost.cli import declared_checks  # noqa: PLC0415 - with it come the workers

    for where, told in declared_checks.check_declared(role, model, run=load_roles):
        yield examined.problem("N13", where, f"{role.name}: {told}")
    for where, told in declared_checks.unknown_types(role):
        yield examined.problem("N16", where, f"{role.name}: {told}", warning=True)
    for where, told in declared_checks.absent_files(role, model) if load_roles else ():
        yield examined.problem("N15", where, f"{role.name}: {told}", warning=True)


def lacks_endpoint(role: RoleModel, classes: Classes) -> bool:
    """Whether a role is a front end and declares no endpoint that it could serve."""
    names = {role.entry_point}
    if role.name in classes:
        names |= {f"{each.__module__}:{each.__qualname__}" for each in classes[role.name].__mro__}
    return FRONT_END in names and FRONT_END_ENDPOINT not in role.endpoints


def _problem(examined: Examined, code: str, keys: Keys, sentence: str) -> Problem:
    return examined.problem(code, keys, f"{keys[1]}: {sentence}")


def _load(examined: Examined, model: ServiceModel, classes: dict[str, type[RoleEntryPoint]]) -> Iterator[Problem]:
    from rolehost.entrypoint import load_entry_point  # noqa: PLC0415 - with it comes all that the roles import

    for role in model.roles.values():
        if not role.entry_point:
            continue
        keys = ("roles", role.name, "entry_point")
        try:
            with redirect_stdout(sys.stderr):  # what a module prints is none of our output
                classes[role.name] = load_entry_point(role.entry_point, model.directory)
        except EntryPointError as error:
            yield _problem(examined, "N11", keys, str(error))
        except SystemExit as error:
            yield _problem(examined, "N11", keys, f'"{role.entry_point}": its module ends the process ({error!r})')


def _of_class(role: RoleModel, found: type[RoleEntryPoint], model: ServiceModel) -> Iterator[str]:
    from rolehost.cli.worker_checks import check_worker  # noqa: PLC0415 - with it come the workers
    from rolehost.workers.queue_worker import QueueWorker  # noqa: PLC0415 - the same

    if issubclass(found, QueueWorker):
        yield from check_worker(role, found, model)


def _variables(model: ServiceModel, environ: Mapping[str, str], classes: Classes) -> Iterator[Problem]:
    """Settings of the environment: those that no role knows, and values that a role can't take."""
    settings = setting_variables(environ)
    declared = {name.casefold(): name for role in model.roles.values() for name in _said(role, settings)}
    known = {name.casefold(): name for found in classes.values() for name in readers_of(found).names} | declared
    complete = all(role.name in classes for role in model.roles.values() if role.entry_point)
    for variable, (name, value) in settings.items():
        if name.casefold() in known:
            values = {known[name.casefold()]: value}
            sentences = {told for found in classes.values() for told in readers_of(found).problems(values)}
            yield from (Problem("N12", told, variable) for told in sorted(sentences))
        elif complete or not name.casefold().startswith(SHIPPED):
            what = "has a" if (shipped := name.casefold().startswith(SHIPPED)) else "declares the"
            told = f'no role of the service {what} setting "{name}"{suggest(name, known.values())}'
            yield Problem("N12", told, variable, warning=not shipped)


def _said(role: RoleModel, settings: Mapping[str, tuple[str, str]]) -> Iterable[str]:
    """What the definition itself says; the environment's settings are every role's, declared or not."""
    added = {name.casefold() for name, _ in settings.values()}
    return [name for name in role.settings if name in role.masked or name.casefold() not in added]
