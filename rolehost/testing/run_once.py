"""One attempt of a worker at one file, in this process, by the path that a job takes in a service.

The file is submitted to stores in a folder, the worker's message is received, the job claimed, the file downloaded to
scratch, the worker called, its result uploaded and the row written. Nothing is faked but the host.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path, PurePath

from rolehost.environment import RoleEnvironment
from rolehost.errors import RoleHostError, StoreError
from rolehost.jobs.job import Attempt, End, Job, JobSpec, JobState, Resource
from rolehost.jobs.kinds import knowing
from rolehost.jobs.levels import queue_of
from rolehost.jobs.parameters import text_of
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from rolehost.testing.defined import DefinedWorker
from rolehost.testing.faulty import Faults, FaultyStores
from rolehost.testing.surroundings import (
    Folder,
    as_role,
    make_approot,
    module_folder,
    noted,
    one_at_a_time,
    running,
    service_root,
)
from rolehost.user_code import UserCode
from rolehost.workers.desk import Desk
from rolehost.workers.outcome import Outcome
from rolehost.workers.processing import process_message
from rolehost.workers.queue_worker import QueueWorker
from rolehost.workers.scratch import RESOURCE, Scratch
from rolehost.workers.settings import WorkerSettings

_PATIENCE = 10.0
_RESOURCES = "resources/"
_user_code = UserCode()

Worker = type[QueueWorker] | QueueWorker | DefinedWorker


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Ran:
    """What became of the attempt.

    Args:
        job: the job's row afterwards: its state, its reason, its parameters as they were read.
        attempt: the attempt in that row; None: nothing was claimed.
        stdout: all that a console application printed, up to `Worker.OutputBytes`.
        stderr: the same.
        result: a copy of the result, under the name that a person downloads it by; None where there is none.
        progress: every value that the progress took, in percent.
    """

    job: Job
    attempt: Attempt | None
    stdout: str = ""
    stderr: str = ""
    result: Path | None = None
    progress: tuple[float, ...] = ()
    _folder: Folder | None = field(default=None, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the job is completed."""
        return self.job.state is JobState.COMPLETED

    @property
    def state(self) -> JobState:
        """Where the job is: `queued` again, after a failure that may be tried again."""
        return self.job.state

    @property
    def end(self) -> End | None:
        """How the attempt ended: it compares with the words that are documented, `ran.end == "bad_input"`."""
        return self.attempt.end if self.attempt else None

    @property
    def exit_code(self) -> int | None:
        """A console application's; negative for a signal."""
        return self.attempt.exit_code if self.attempt else None

    @property
    def detail(self) -> str:
        """Why it ended so, for a person."""
        return self.attempt.detail if self.attempt else ""

    @property
    def result_name(self) -> str:
        """The name under which a person downloads the result; empty where there is none."""
        return self.job.result.name if self.job.result else ""

    @property
    def result_type(self) -> str:
        """The result's media type; empty where there is none."""
        return self.job.result.type if self.job.result else ""

    @property
    def result_bytes(self) -> bytes:
        """What is in the result.

        Raises:
            LookupError: there is none; the message says why.
        """
        if self.result is None:
            raise LookupError(f"there is no result: {self!r}")
        return self.result.read_bytes()

    @property
    def result_text(self) -> str:
        """The same as text, in UTF-8."""
        return self.result_bytes.decode()

    def __repr__(self) -> str:
        told = [f"state={self.state}", f"end={self.end}", f"exit_code={self.exit_code}", f"detail={self.detail!r}"]
        told += [f"{name}={text!r}" for name, text in (("stdout", self.stdout), ("stderr", self.stderr)) if text]
        return f"Ran({', '.join([*told, f'result={self.result_name!r}'])})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What `run_once` was called with."""

    worker: DefinedWorker
    source: Path
    parameters: Mapping[str, str]
    local_resources: Mapping[str, str | PathLike[str]]
    name: str
    resources: Mapping[str, str | PathLike[str]]
    program: str | None
    faults: Faults | None


@dataclass(slots=True)
class _Seen:
    """What the attempt said of itself."""

    outcome: Outcome = field(default_factory=lambda: Outcome(end=End.STORE_ERROR))
    progress: list[float] = field(default_factory=list)


def run_once(
    worker: Worker,
    source: str | PathLike[str],
    *,
    parameters: Mapping[str, object] | None = None,
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    local_resources: Mapping[str, str | PathLike[str]] | None = None,
    name: str | None = None,
    resources: Mapping[str, str | PathLike[str]] | None = None,
    program: str | PathLike[str] | None = None,
    folder: Path | None = None,
    faults: Faults | None = None,
) -> Ran:
    """Have a worker try one job, once. In a coroutine, await `run_once_async` instead.

    Args:
        worker: the class, which is made without arguments, an object of it, or what `worker_in` finds.
        source: the file.
        parameters: of the job, as a client submits them; None: not given.
        settings: of the role, `{"Worker.TimeoutSeconds": "5"}`.
        environment: the role's own variables, which a console application sees, too.
        local_resources: a directory for each name; `Scratch` is there anyway.
        name: the file's name as the client gave it; None: its own.
        resources: the job's resource files, a file for each name.
        program: runs in the place of the worker's own, with the same arguments, as a `RecordedApp`.
        folder: where stores, scratch and result are; None: a temporary one, which goes away with the answer.
        faults: what is to go wrong with the stores while the attempt is made.

    Raises:
        SubmissionError: such a job would not be accepted, and why.
        RoleEnvironmentError: a setting is no number, or out of range.
        RoleHostError: `on_start` said False.
        RuntimeError: it was called in a coroutine.
    """
    if _in_coroutine():
        raise RuntimeError("in a coroutine, await run_once_async(...)")
    return asyncio.run(
        run_once_async(
            worker,
            source,
            parameters=parameters,
            settings=settings,
            environment=environment,
            local_resources=local_resources,
            name=name,
            resources=resources,
            program=program,
            folder=folder,
            faults=faults,
        )
    )


async def run_once_async(
    worker: Worker,
    source: str | PathLike[str],
    *,
    parameters: Mapping[str, object] | None = None,
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    local_resources: Mapping[str, str | PathLike[str]] | None = None,
    name: str | None = None,
    resources: Mapping[str, str | PathLike[str]] | None = None,
    program: str | PathLike[str] | None = None,
    folder: Path | None = None,
    faults: Faults | None = None,
) -> Ran:
    """`run_once` for a coroutine; see there."""
    defined = _defined(worker)
    asked = _Asked(
        worker=replace(
            defined,
            settings={**defined.settings, **(settings or {})},
            environment={**defined.environment, **(environment or {})},
        ),
        source=Path(source),
        parameters={each: _text(value) for each, value in (parameters or {}).items() if value is not None},
        local_resources=local_resources or {},
        name=name or Path(source).name,
        resources=resources or {},
        program=None if program is None else fspath(program),
        faults=faults,
    )
    with nullcontext() if defined.kinds is None else knowing(defined.kinds):
        async with one_at_a_time():
            return await _in_folder(asked, Folder(folder))


def _defined(worker: Worker) -> DefinedWorker:
    if isinstance(worker, DefinedWorker):
        return worker
    if isinstance(worker, type):
        return DefinedWorker(make=worker, role=worker.__name__)
    return DefinedWorker(make=lambda: worker, role=type(worker).__name__)


async def _in_folder(asked: _Asked, folder: Folder) -> Ran:
    root, scratch, data = folder.new("role"), folder.new("scratch"), folder.new("data")
    if asked.worker.service is not None:
        root = service_root(asked.worker.service, asked.worker.role, root)
    environment = RoleEnvironment.for_testing(
        settings=asked.worker.settings,
        local_resources={RESOURCE: scratch, **asked.local_resources},
        role_name=asked.worker.role,
    )
    with as_role(environment, root, asked.worker.environment):
        async with connect({"ROLEHOST_DATA": str(data)}) as stores, _started(asked, environment, root) as worker:
            return await _attempt(asked, stores, worker, folder, scratch)


@asynccontextmanager
async def _started(asked: _Asked, environment: RoleEnvironment, root: Path) -> AsyncIterator[QueueWorker]:
    """The worker between its `on_start` and its `on_stop`."""
    worker: QueueWorker = await _user_code.call(asked.worker.make)
    worker.role_environment = environment
    if asked.worker.service is None:
        make_approot(module_folder(type(worker)), root)
    started = await _user_code.call(worker.on_start)
    if started is not None and not started:
        raise RoleHostError(f"{type(worker).__name__}.on_start said False: the instance would be recycled")
    with running(asked.program, worker):
        yield worker
    await _user_code.call(worker.on_stop)


async def _attempt(asked: _Asked, stores: Stores, worker: QueueWorker, folder: Folder, scratch: Path) -> Ran:
    resources = await _lent(stores, asked.resources)
    job = await Submitter(stores).submit(
        Submission(path=asked.source, name=asked.name, kind=worker.kind, given=asked.parameters, resources=resources)
    )
    settings = worker.read_settings()
    settings = replace(settings, sources=replace(settings.sources, blobs=(*settings.sources.blobs, _RESOURCES)))
    desk = _desk(stores if asked.faults is None else FaultyStores(stores, asked.faults), worker, settings, job)
    (message,) = await stores.queue(desk.queue.name).receive(1, hide=desk.hiding, wait=_PATIENCE)
    seen = _Seen()

    async def attempt(spec: JobSpec, place: Scratch) -> Outcome:
        with noted(place.meter, seen.progress):
            seen.outcome = await worker.attempt(spec, place)
        return seen.outcome

    async with worker.prepared(settings, scratch):
        with suppress(StoreError):  # as in a service: the message comes back
            await process_message(desk, message, attempt, root=scratch, identity=worker.identity)
    return await _told(stores, job.id, seen, folder)


async def _lent(stores: Stores, resources: Mapping[str, str | PathLike[str]]) -> tuple[Resource, ...]:
    """The resource files as blobs, by numbers: the names are the worker's to judge."""
    for number, path in enumerate(resources.values()):
        await stores.blobs.put(f"{_RESOURCES}{number}", Path(path))
    return tuple(Resource(name=name, blob=f"{_RESOURCES}{number}") for number, name in enumerate(resources))


def _desk(stores: Stores, worker: QueueWorker, settings: WorkerSettings, job: Job) -> Desk:
    return Desk(
        stores=stores,
        jobs=JobTable(stores.table(TABLE)),
        queue=stores.queue(queue_of(job.spec)),
        settings=settings,
        instance=worker.role_environment.current_role_instance.id,
    )


async def _told(stores: Stores, job_id: str, seen: _Seen, folder: Folder) -> Ran:
    job = await JobTable(stores.table(TABLE)).read(job_id)
    if job is None:
        raise RoleHostError(f"the row of the job {job_id} is gone")
    result = None
    if job.result is not None:
        result = folder.new("result") / (PurePath(job.result.name).name or "result")
        await stores.blobs.download(job.result.blob, result)
    return Ran(
        job=job,
        attempt=job.attempts[-1] if job.attempts else None,
        stdout=seen.outcome.stdout,
        stderr=seen.outcome.stderr,
        result=result,
        progress=tuple(seen.progress),
        _folder=folder,
    )


def _in_coroutine() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _text(value: object) -> str:
    """A parameter as a form or a command line would send it."""
    return text_of(value) if isinstance(value, bool | int | float) else str(value)
