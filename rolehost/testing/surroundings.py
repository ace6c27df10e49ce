"""What a worker finds around it in `run_once`: a role environment, a RoleRoot, the variables of a role's process."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import rolehost.environment
from rolehost.environment import RoleEnvironment
from rolehost.host.instance import approot
from rolehost.host.instance.plan_facts import PlanFacts
from rolehost.host.paths import DataDirectory, role_root
from rolehost.jobs.job import JobSpec
from rolehost.service_model import ServiceModel
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.progress import Meter
from rolehost.workers.queue_worker import QueueWorker

_PASSABLE = 0o755
_BUNDLED = "legacy_bin"
_PACKAGE = Path(rolehost.environment.__file__).parent
_turn = threading.Lock()


class Folder:
    """A folder for one run: the test's own, or a temporary one that goes away with this object.

    Args:
        given: the test's.
    """

    def __init__(self, given: Path | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="rolehost-test-") if given is None else given).absolute()
        if given is None:
            self.path.chmod(_PASSABLE)  # a console application may run as somebody else
            weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def new(self, name: str) -> Path:
        """A folder in it that wasn't there before; several runs may share the test's."""
        number = 1
        while True:
            path = self.path / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir(mode=_PASSABLE, parents=True)
            except FileExistsError:
                number += 1
            else:
                path.chmod(_PASSABLE)
                return path


@asynccontextmanager
async def one_at_a_time() -> AsyncIterator[None]:
    """Variables and the role environment are the whole process's: runs take turns."""
    while not _turn.acquire(blocking=False):  # noqa: ASYNC110 - runs may be on several loops, an Event is on one
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        _turn.release()


@contextmanager
def as_role(environment: RoleEnvironment, root: Path, declared: Mapping[str, str]) -> Iterator[None]:
    """This process as a role's, as long as the block lasts.

    Args:
        environment: what `rolehost.role_environment` answers from meanwhile.
        root: the RoleRoot.
        declared: the role's own variables.
    """
    instance = environment.current_role_instance
    variables = {
        **declared,
        "RoleRoot": str(root),
        "RoleName": instance.role.name,
        "RoleInstanceID": instance.id,
        "RdRoleId": instance.id,
        "RoleDeploymentID": environment.deployment_id,
        "ROLEHOST_ROLE_VARIABLES": json.dumps(list(declared)),
    }
    with mock.patch.dict(os.environ, variables), rolehost.environment.role_environment.stands_for(environment):
        yield


def module_folder(worker: type[QueueWorker]) -> Path | None:
    """The folder of a class's module; None for what ships."""
    folder = Path(inspect.getfile(worker)).resolve().parent
    return None if folder.is_relative_to(_PACKAGE) else folder


def service_root(service: ServiceModel, role: str, folder: Path) -> Path:
    """The RoleRoot of a service's role, put together as its host does it.

    Args:
        service: the service.
        role: the role's name.
        folder: an empty one.
    """
    data = DataDirectory(folder)
    plan = PlanFacts(model=service, role=service.roles[role], number=0, data=data, deployment_id="", environ=os.environ)
    return approot.build(plan).parent


def make_approot(beside: Path | None, root: Path) -> None:
    """Links to what lies beside a class's module, and to the applications that ship: `{approot}` leads there.

    Args:
        beside: the module's folder.
        root: an empty folder, the RoleRoot.
    """
    place = root / approot.APPROOT
    place.mkdir(mode=_PASSABLE)
    place.chmod(_PASSABLE)
    (place / _BUNDLED).symlink_to((role_root() / approot.APPROOT / _BUNDLED).resolve())
    for entry in beside.iterdir() if beside else ():
        if not entry.name.startswith((".", "__")) and entry.name != _BUNDLED:
            (place / entry.name).symlink_to(entry)


@contextmanager
def noted(meter: Meter, values: list[float]) -> Iterator[None]:
    """Keep each value that a meter takes, as long as the block lasts."""
    take = meter.note

    def note(percent: float | None) -> None:
        before = meter.now
        take(percent)
        if meter.now is not None and meter.now is not before:
            values.append(meter.now.percent)

    with mock.patch.object(meter, "note", note):
        yield


@contextmanager
def running(program: str | None, worker: QueueWorker) -> Iterator[None]:
    """A worker with another program in the place of its own, as long as the block lasts."""
    if program is None:
        yield
        return
    if not isinstance(worker, ConsoleAppWorker):
        raise TypeError(f"{type(worker).__name__} runs no program that another one could stand for")
    app, command = worker.app, worker.command

    def other(job: JobSpec) -> Sequence[str]:
        return (program, *list(command(job))[1:])

    stand_in = replace(app, argv=(program, *list(app.argv)[1:]), warm_imports=None)
    with mock.patch.object(worker, "app", stand_in), mock.patch.object(worker, "command", other):
        yield
