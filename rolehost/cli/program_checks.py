"""What a role's startup tasks and its guest program are started with: is it there, and can it run here?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from rolehost.errors import ProgramNotFoundError
from rolehost.host.instance.commands import argv_of, words
from rolehost.service_model import RoleModel, ServiceModel
from rolehost.service_model.problems import Keys


def check_programs(role: RoleModel, model: ServiceModel, environ: Mapping[str, str]) -> Iterator[tuple[Keys, str]]:
    """What can't be started, and where the definition names it.

    Args:
        role: the role.
        model: its service.
        environ: the variables, for the PATH.
    """
    env = {"PATH": environ.get("PATH", os.defpath)} | dict(role.environment)
    for index, task in enumerate(role.startup_tasks):
        if told := _refused(task.command_line, role, model, env | dict(task.environment)):
            yield ("roles", role.name, "startup", str(index), "command"), f"a startup task can't be started: {told}"
    if role.program and (told := _refused(role.program, role, model, env)):
        yield ("roles", role.name, "program"), f"the program can't be started: {told}"


def _refused(command_line: str, role: RoleModel, model: ServiceModel, env: Mapping[str, str]) -> str:
    try:
        name = words(command_line)[0].replace("\\", "/")
        if found := _in_contents(name, role, model):
            argv_of(f'"{found.name}"', found.parent, env)
        else:
            argv_of(command_line, approot_with(name, role, model) or model.directory, env)
    except ProgramNotFoundError as error:
        return str(error)
    return ""


def _in_contents(name: str, role: RoleModel, model: ServiceModel) -> Path | None:
    for destination, source in role.contents.items():
        if PurePosixPath(name).is_relative_to(destination):
            path = model.directory / source / PurePosixPath(name).relative_to(destination)
            if path.is_file():
                return path
    return None


def approot_with(name: str, role: RoleModel, model: ServiceModel) -> Path | None:
    """The directory, among those that a role's approot is put together from, that has a file."""
    places = [model.directory / role.name, model.directory / "approot", model.directory]
    return next((place for place in places if (place / name).is_file()), None)
