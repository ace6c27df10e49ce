"""What is missing in a worker's class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rolehost.errors import InvalidParameterError, ProgramNotFoundError
from rolehost.host.paths import role_root
from rolehost.jobs.kinds import kind_named
from rolehost.processes.identity import require_program
from rolehost.service_model import RoleModel
from rolehost.workers.console_app import ConsoleApp, fill, standard_values
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.queue_worker import QueueWorker

_OF_THE_APP = ("argv", "bad_input_exit_codes", "timeout", "warm_imports")


def check_worker(role: RoleModel, worker: type[QueueWorker]) -> Iterator[str]:
    """Why a worker can't do any job.

    Args:
        role: its variables may say where programs are found.
        worker: the class of its entry point.
    """
    yield from _kind(worker)
    if issubclass(worker, ConsoleAppWorker):
        yield from _misplaced(worker)
        yield from _app(role, worker)
    elif worker.process is QueueWorker.process and worker.attempt is QueueWorker.attempt:
        yield f"{worker.__name__} has no process(): that is what does the job"


def _kind(worker: type[QueueWorker]) -> Iterator[str]:
    kind: object = worker.kind
    if kind == "":
        yield f'{worker.__name__} names no `kind` of job: kind = "..."'
    elif isinstance(kind, str):
        try:
            kind_named(kind)
        except InvalidParameterError as error:
            yield f"{worker.__name__}.kind: {error}"


def _misplaced(worker: type[ConsoleAppWorker]) -> Iterator[str]:
    for name in _OF_THE_APP:
        value = getattr(worker, name, None)
        if value is not None and not callable(value) and not isinstance(value, property):
            yield f"{worker.__name__}.{name} has no effect: it belongs to the app, ConsoleApp(..., {name}=...)"


def _app(role: RoleModel, worker: type[ConsoleAppWorker]) -> Iterator[str]:
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
        yield from (f"{name}.app: {told}" for told in _program(role, app))


def _program(role: RoleModel, app: ConsoleApp) -> Iterator[str]:
    values = standard_values({"RoleRoot": str(role_root())})
    path = role.environment.get("PATH") or os.environ.get("PATH", os.defpath)
    try:
        program = fill(app.argv[:1], values)[0]
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
            yield from _script(app.argv[1:2], values)


def _script(arguments: Sequence[str], values: Mapping[str, str]) -> Iterator[str]:
    with suppress(InvalidParameterError):  # the job names it
        for script in fill(arguments, values):
            if Path(script).is_absolute() and not Path(script).is_file():
                yield f"there is no script {script}"
