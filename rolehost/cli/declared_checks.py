"""Whether the program of a worker by configuration is there, and answers."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from rolehost.cli.program_checks import approot_with
from rolehost.errors import ProgramNotFoundError
from rolehost.host.paths import role_root
from rolehost.jobs.sniffing import RECOGNISED, TEXT
from rolehost.processes import Child, unprivileged_identity
from rolehost.processes.identity import require_program
from rolehost.service_model import RoleModel, ServiceModel
from rolehost.service_model.problems import Keys
from rolehost.service_model.worker import WorkerDeclaration, placeholders
from rolehost.workers.configured import template
from rolehost.workers.console_app import allowed_environment, fill, standard_values
from rolehost.workers.reasons import last_line

LONGEST = 10.0
_CAPTURED = 64 * 1024
_APPROOT = "{approot}/"


def check_declared(role: RoleModel, model: ServiceModel, *, run: bool) -> Iterator[tuple[Keys, str]]:
    """Why a worker by configuration can't do its jobs, and where the definition says so.

    Args:
        role: one with a declaration.
        model: its service.
        run: look for its programs, and start the one that shows that it answers.
    """
    worker, keys = role.worker, ("roles", role.name, "worker")
    if worker is None or not worker.program or not run:
        return
    env = _environment(role, worker)
    for key in ("program", "verify", "version"):
        told = _missing(getattr(worker, key)[:1], env, role, model)
        if key == "version" and worker.version and not told:
            told = asyncio.run(_answer(worker.version, env, role, model))
        if told:
            yield (*keys, key), told


def unknown_types(role: RoleModel) -> Iterator[tuple[Keys, str]]:
    """Media types that no file here is ever found to be: nothing is accepted for them."""
    for accepted in role.worker.accepts if role.worker else ():
        sort, _, rest = accepted.partition("/")
        known = {each.partition("/")[0] for each in RECOGNISED} | {"text"} if rest == "*" else {*RECOGNISED, TEXT}
        if rest and (sort if rest == "*" else accepted) not in known:
            told = f"no file is known here to be {accepted} by its content: name the ending of its name instead"
            yield ("roles", role.name, "worker", "accepts"), told


def absent_files(role: RoleModel, model: ServiceModel) -> Iterator[tuple[Keys, str]]:
    """Files of the service that arguments name, and that aren't there; a startup task may still make them."""
    worker = role.worker
    commands = {} if worker is None else {"verify": worker.verify, "version": worker.version}
    if worker is not None:
        commands["program"] = tuple(each for group in worker.groups for each in group)
    for key, command in commands.items():
        for each in command[1:]:
            name = each.removeprefix(_APPROOT)
            if name != each and not [*placeholders(name)] and not _own(each, role, model):
                told = f"there is no {name} in the service's folder, which {each} names"
                yield ("roles", role.name, "worker", key), told


def _environment(role: RoleModel, worker: WorkerDeclaration) -> Mapping[str, str]:
    """As the worker gives it; the role's variables are still those of the definition."""
    scratch = Path(tempfile.gettempdir())
    return {**allowed_environment(os.environ, scratch), **role.environment, **worker.environment}


def _filled(command: Sequence[str], role: RoleModel, model: ServiceModel) -> list[str]:
    values = standard_values({"RoleRoot": str(role_root())})
    values |= {"_open": "{", "_close": "}"}
    name = command[0].removeprefix(_APPROOT)
    if name != command[0] and (found := approot_with(name, role, model)):
        values["approot"] = str(found)
    return [str(_own(each, role, model) or fill([template(each)], values)[0]) for each in command]


def _own(argument: str, role: RoleModel, model: ServiceModel) -> Path | None:
    """The file of the service, or of what ships, that an argument leads to; None: to none that is there."""
    if not argument.startswith(_APPROOT):
        return None
    name = PurePosixPath(argument.removeprefix(_APPROOT))
    below = [(source, into) for into, source in role.contents.items() if name.is_relative_to(into)]
    places = [model.directory / source / name.relative_to(into) for source, into in below]
    places += [folder / name for folder in (model.directory / role.name, model.directory / "approot", model.directory)]
    return next((each for each in (*places, role_root() / "approot" / name) if each.exists()), None)


def _missing(program: Sequence[str], env: Mapping[str, str], role: RoleModel, model: ServiceModel) -> str:
    if not program:
        return ""
    try:
        require_program(_filled(program, role, model)[0], {"PATH": env.get("PATH", os.defpath)}, Path("/"))
    except ProgramNotFoundError as error:
        return f"the program can't be started: {str(error).rstrip('.')}"
    return ""


async def _answer(command: Sequence[str], env: Mapping[str, str], role: RoleModel, model: ServiceModel) -> str:
    """Why the program doesn't answer; empty: it does."""
    argv = _filled(command, role, model)
    name, path = Path(argv[0]).name, shutil.which(argv[0], path=env.get("PATH", os.defpath)) or "/"
    identity = await unprivileged_identity(["stat", "--", path], Path("/"))
    child = await Child.spawn(
        argv, env=env, cwd=Path("/"), marker=f"check/{secrets.token_hex(8)}", identity=identity, capture=_CAPTURED
    )
    try:
        async with asyncio.timeout(LONGEST):
            ended = await child.wait()
    except TimeoutError:
        return f"{name} did not answer within {LONGEST:g} s"
    finally:
        await child.stop(0.0)
    if ended.code == 0:
        return ""
    how = f"signal {ended.signal}" if ended.signal else f"exit code {ended.code}"
    said = last_line(child.stderr.text()) or last_line(child.stdout.text())
    return f"{name} answered with {how}{f': {said}' if said else ''}"
