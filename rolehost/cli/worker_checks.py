"""What is missing in a worker's class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import getattr_static, iscoroutinefunction, isfunction, signature
from pathlib import Path

from rolehost.cli.program_checks import approot_with
from rolehost.errors import InvalidParameterError, ProgramNotFoundError
from rolehost.host.paths import role_root
from rolehost.jobs.kinds import kind_named
from rolehost.processes.identity import require_program
from rolehost.service_model import RoleModel, ServiceModel
from rolehost.workers.configured import ConfiguredWorker
from rolehost.workers.console_app import ConsoleApp, fill, standard_values
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.queue_worker import QueueWorker
from rolehost.workers.transcode import TranscodeWorker

_CALLED = {
    "process": ("job", "scratch"),
    "progress": ("job", "scratch"),
    "parse_progress": ("line",),
    **dict.fromkeys(("command", "result_name", "result_type", "values"), ("job",)),
}
"""What users override, and what it is called with."""
_MAY_WAIT = frozenset({"process", "progress"})
_OF_THE_APP = ("argv", "bad_input_exit_codes", "reads_stdin", "timeout", "warm_imports", "writes_stdout")


def check_worker(role: RoleModel, worker: type[QueueWorker], model: ServiceModel) -> Iterator[str]:
    """Why a worker can't do any job.

    Args:
        role: its variables may say where programs are found.
        worker: the class of its entry point.
        model: the role's service.
    """
    if issubclass(worker, ConfiguredWorker):
        if role.worker is None or not role.worker.program:
            yield f"{worker.__name__} takes all from the table [roles.{role.name}.worker], and that names no program"
        return
    yield from _kind(role, worker)
    yield from _miscalled(worker)
    if issubclass(worker, ConsoleAppWorker):
        yield from _misplaced(worker)
        yield from _app(role, worker, model)
        if issubclass(worker, TranscodeWorker):
            path = role.environment.get("PATH") or os.environ.get("PATH", os.defpath)
            yield from worker.missing(role.settings, path)
    elif worker.process is QueueWorker.process and worker.attempt is QueueWorker.attempt:
        yield f"{worker.__name__} has no process(): that is what does the job"


def _kind(role: RoleModel, worker: type[QueueWorker]) -> Iterator[str]:
    kind: object = worker.kind
    if role.worker is not None and isinstance(kind, str) and kind not in {"", role.worker.kind}:
        yield f'{worker.__name__}.kind is "{kind}", and the role\'s table declares the kind "{role.worker.kind}"'
    if kind == "":
        yield f'{worker.__name__} names no `kind` of job: kind = "..."'
    elif isinstance(kind, str):
        try:
            kind_named(kind)
        except InvalidParameterError as error:
            yield f"{worker.__name__}.kind: {error}"


def _miscalled(worker: type[QueueWorker]) -> Iterator[str]:
    """Methods of a user's that can't be called as they will be."""
    for name, arguments in _CALLED.items():
        method = getattr_static(worker, name, None)
        if not isfunction(method):
            continue
        try:
            signature(method).bind("self", *arguments)
        except TypeError:
            yield f"{worker.__name__}.{name}() takes other arguments than it is called with: {', '.join(arguments)}"
        if name not in _MAY_WAIT and iscoroutinefunction(method):
            yield f"{worker.__name__}.{name}() is a coroutine function: it has to be a plain one"


def _misplaced(worker: type[ConsoleAppWorker]) -> Iterator[str]:
    for name in _OF_THE_APP:
        value = getattr(worker, name, None)
        if value is not None and not callable(value) and not isinstance(value, property):
            yield f"{worker.__name__}.{name} has no effect: it belongs to the app, ConsoleApp(..., {name}=...)"


def _app(role: RoleModel, worker: type[ConsoleAppWorker], model: ServiceModel) -> Iterator[str]:
    app: object = getattr(worker, "app", None)
    name = worker.__name__
    if isinstance(app, property):
        return  # only an instance can say
    if app is None:
        yield f"{name} names no `app`: app = ConsoleApp([...])"
    elif not isinstance(app, ConsoleApp):
        yield f"{name}.app is no ConsoleApp: {app!r}"
    elif isinstance(app.argv, str) or not app.argv or not all(isinstance(each, str) for each in app.argv):
        yield f"{name}.app: argv is a list of texts, the program and its arguments, not {app.argv!r}"
    else:
        yield from (f"{name}.app: {told}" for told in _program(role, app, model))


def _program(role: RoleModel, app: ConsoleApp, model: ServiceModel) -> Iterator[str]:
    values = standard_values({"RoleRoot": str(role_root())})
    path = role.environment.get("PATH") or os.environ.get("PATH", os.defpath)
    try:
        program = fill(app.argv[:1], values | _approot(app.argv[:1], role, model))[0]
        if "/" in program and not Path(program).is_absolute():
            yield f"the program {program} is a relative path: it would be looked for in each job's scratch directory"
            return
        require_program(program, {"PATH": path}, Path("/"))
    except InvalidParameterError:
        yield f"the program is the same for every job: it can't be named by {app.argv[0]}"
    except ProgramNotFoundError as error:
        yield str(error).rstrip(".")
    else:
        if program == values["python"]:
            yield from _script(app.argv[1:2], values | _approot(app.argv[1:2], role, model))


def _approot(argument: Sequence[str], role: RoleModel, model: ServiceModel) -> dict[str, str]:
    """What `{approot}` is where it leads to a file of the service's own; nothing where it leads to what ships."""
    names = [each.removeprefix("{approot}/") for each in argument if each.startswith("{approot}/")]
    found = approot_with(names[0], role, model) if names else None
    return {"approot": str(found)} if found else {}


def _script(arguments: Sequence[str], values: Mapping[str, str]) -> Iterator[str]:
    with suppress(InvalidParameterError):  # the job names it
        for script in fill(arguments, values):
            if Path(script).is_absolute() and not Path(script).is_file():
                yield f"there is no script {script}"
