"""Step 2: a role that works on a queue: it fills its slots, waits, and drains."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rolehost import clock
from rolehost.entrypoint import ServedRole
from rolehost.errors import BadInputError, RoleEnvironmentError, StoreError
from rolehost.jobs.batches.driver import BatchDriver
from rolehost.jobs.job import End, JobSpec
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.sweeper import TABLE as SWEEPERS
from rolehost.jobs.sweeper import Sweeper
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.webhooks import Webhooks
from rolehost.stores.connect import connect
from rolehost.telemetry import emit
from rolehost.telemetry.metrics_port import MetricsSettings, metrics_port
from rolehost.telemetry.opentelemetry_export import exported_traces
from rolehost.telemetry.transactions import HEARTBEATS, JOBS, SWEEPER, spent_on
from rolehost.user_code import UserCode
from rolehost.workers.admission import Admission
from rolehost.workers.claiming import settled
from rolehost.workers.desk import Desk
from rolehost.workers.inputs import is_disk_full
from rolehost.workers.levels import Levels
from rolehost.workers.outcome import Outcome
from rolehost.workers.polling import Poller
from rolehost.workers.processing import process_message
from rolehost.workers.reasons import shortened
from rolehost.workers.scratch import Scratch, collect_kept, scratch_root
from rolehost.workers.scratch_limit import ScratchLimit
from rolehost.workers.settings import WorkerSettings
from rolehost.workers.slots import Slots

if TYPE_CHECKING:
    from rolehost.processes import ChildIdentity
    from rolehost.stores import QueueMessage

LOOK_EVERY = 5.0
DEADLINE_MOVES = 0.2
"""A second signal brings the deadline of a drain nearer; it is looked at so often."""
MOST_UPLOADS = 4
"""Results on their way for each slot: a store that takes them slowly holds up the slots, not only the leases."""


class QueueWorker(ServedRole):
    """A worker role for one kind of job.

    Subclass it, name the `kind`, and write `process`: everything around it (the lease, scratch, results, retries, the
    poison queue) is done. For a command-line program derive from `ConsoleAppWorker` instead. `scratch_bytes` says what
    a job may need there: nothing is claimed while the disk has less free.
    """

    kind: str = ""
    identity: ChildIdentity | None = None
    scratch_bytes: ClassVar[int] = 0
    _user_code: ClassVar = UserCode()
    _settings: WorkerSettings = WorkerSettings()

    def process(self, job: JobSpec, scratch: Scratch) -> Path | Outcome | Awaitable[Path | Outcome]:
        """Do the job; a plain function or a coroutine function.

        Args:
            job: its `id`, `kind`, `parameters` and `source`.
            scratch: its own directory; the asset is at `scratch.source`, and `scratch.folder` takes what you write.

        Returns:
            The result, a file in the scratch directory.

        Raises:
            BadInputError: the input is at fault; any other exception is charged, and tried again.
        """
        raise NotImplementedError(f"{type(self).__name__} has no process()")

    def grace(self) -> float:
        """Seconds from TERM to KILL, as much as the host still gives."""
        left = math.inf if self.stop_deadline is None else self.stop_deadline - clock.monotonic() - 1
        return max(0.0, min(self._settings.kill_grace, left))

    async def prepare(self, root: Path) -> None:
        """Called once, before the first message, on the infrastructure loop: for what ships.

        Args:
            root: where scratch directories are made.
        """

    @asynccontextmanager
    async def prepared(self, settings: WorkerSettings, root: Path) -> AsyncIterator[None]:
        """Fit for attempts, as long as the block lasts: `serve` and `rolehost.testing` meet here.

        Args:
            settings: what the role's settings say.
            root: where scratch directories are made.
        """
        self._settings = settings
        await self.prepare(root)
        yield

    async def attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        """Run the user's `process` off the infrastructure loop, and judge what it did."""
        try:
            made = await self._interruptible(self._user_code.call(self.process, job, scratch))
        except BadInputError as error:
            return Outcome(end=End.BAD_INPUT, detail=shortened(str(error)))
        except Exception as error:
            if is_disk_full(error):
                raise
            return Outcome(end=End.APP_ERROR, detail=shortened(f"{type(error).__name__}: {error}"))
        if isinstance(made, Outcome):
            return made
        if not isinstance(made, str | os.PathLike):
            told = f"{type(self).__name__}.process() returns the path of its result, not {made!r}"
            return Outcome(end=End.APP_ERROR, detail=shortened(told))
        return Outcome(end=End.OK, result=Path(made), result_name=Path(made).name)

    async def _interruptible(self, call: asyncio.Future[Any]) -> Any:
        """Wait for user code. A thread can't be ended, a process can: one that outlives its grace costs a recycle."""
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            call.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody else hears of it
            if inspect.iscoroutinefunction(self.process):
                call.cancel()
            else:
                await asyncio.wait([call], timeout=self.grace())
            if not call.done():
                emit("worker.stuck", kind=self.kind)
                with suppress(RoleEnvironmentError):  # no host, no recycle
                    self.role_environment.request_recycle()
            raise

    @cached_property
    def _opened(self) -> asyncio.Event:
        return asyncio.Event()

    async def serving(self) -> None:
        """Wait until `serve` has its settings and its stores: the instance is ready then."""
        await self._opened.wait()

    def read_settings(self) -> WorkerSettings:
        """What the role's settings say."""
        return WorkerSettings.of(self.role_environment, os.environ)

    async def serve(self, stopping: asyncio.Event) -> None:
        """Work until stopped; then drain."""
        settings = self._settings = self.read_settings()
        metrics = MetricsSettings.read(self.role_environment)
        root = scratch_root(self.role_environment)
        async with (
            connect(os.environ) as stores,
            Webhooks(stores, settings.webhooks) as webhooks,
            self.prepared(settings, root),
        ):
            desk = Desk(
                stores=stores,
                jobs=JobTable(stores.table(TABLE)),
                queue=Levels(stores, self.kind),
                settings=settings,
                instance=self.role_environment.current_role_instance.id,
                webhooks=webhooks,
            )
            emit("worker.ready", kind=self.kind, slots=settings.slots, queue=desk.queue.name)
            self._opened.set()
            recovery = Recovery(stores, lease=settings.lease, rules=settings.retention, webhooks=webhooks)
            sweeper = Sweeper(recovery, stores.table(SWEEPERS), desk.instance, interval=settings.recovery)
            health = desk.health.watch(stores.table(SWEEPERS), self.role_environment)
            sweeping, looking = _spent(SWEEPER, sweeper.run()), _spent(HEARTBEATS, health)
            counted = metrics_port(metrics, instance=desk.instance)
            batches = BatchDriver(stores, desk.instance)
            async with _beside(sweeping), _beside(looking), _beside(collect_kept()), counted, batches:
                with exported_traces(desk.instance):
                    await _Loop(self, desk, root).work(stopping)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Something that runs for as long as the block does."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _spent(purpose: str, work: Coroutine[Any, Any, None]) -> None:
    """Do something whose requests to the stores are for a purpose."""
    with spent_on(purpose):
        await work


class _Loop:
    """Receives for free slots, and a few messages ahead; runs each message as a task."""

    def __init__(self, worker: QueueWorker, desk: Desk, root: Path) -> None:
        self._worker = worker
        self._desk = desk
        self._root = root
        self._limit = ScratchLimit.of(worker.role_environment)
        self._slots = Slots(desk.settings.slots, lease=desk.settings.lease)
        self._admission = Admission(root, max(desk.settings.disk_floor, worker.scratch_bytes))
        self._poller = Poller(desk.queue, hiding=desk.hiding, longest=desk.settings.poll)
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self, stopping: asyncio.Event) -> None:
        feeding = asyncio.create_task(self._feed())
        stopped = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({feeding, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                feeding.result()  # it ends by an error only
        finally:
            stopped.cancel()
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await self._drain()

    async def _feed(self) -> None:
        """Start a task for each message, as slots become free."""
        while True:
            await self._slots.wait_for_free()
            while len(self._tasks) >= self._desk.settings.slots * (1 + MOST_UPLOADS):
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._admission.granted()
            await self._desk.health.patience()
            message = self._slots.next_message() or await self._receive()
            if message is not None:
                self._start(message)

    async def _receive(self) -> QueueMessage | None:
        """One message to start now; what came with it waits in line."""
        try:
            messages = await self._poller.receive(self._slots.wanted(self._desk.ahead), wait=LOOK_EVERY)
        except StoreError as error:
            self._desk.health.failed("receive", error)
            await self._poller.after_error()
            return None
        self._desk.health.answered("receive")
        if not messages:
            await self._poller.after_nothing()
            return None
        first, *more = messages
        self._slots.line_up(more)
        return first

    def _start(self, message: QueueMessage) -> None:
        ran = self._slots.take()
        task = asyncio.create_task(self._process(message, ran), name=f"message {message.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _process(self, message: QueueMessage, ran: Slots.Giver) -> None:
        worker = self._worker
        try:
            with spent_on(JOBS):
                await process_message(
                    self._desk,
                    message,
                    worker.attempt,
                    root=self._root,
                    identity=worker.identity,
                    limit=self._limit,
                    ran=ran,
                )
        except StoreError as error:
            self._desk.health.failed("attempt", error, message=message.id)
        except Exception as error:  # noqa: BLE001 - a fault of ours costs one attempt, not the neighbours
            emit("attempt.crashed", message=message.id, why=repr(error))
        finally:
            ran()

    async def _drain(self) -> None:
        """Give back what waits in line; let what fits finish, then interrupt the rest."""
        settings = self._desk.settings
        drained = clock.monotonic() + settings.drain
        self._desk.draining.set()
        emit("worker.draining", running=len(self._tasks))
        await self._desk.receive_no_more()
        await asyncio.gather(*(settled(self._desk.queue.release(message)) for message in self._slots.rest()))
        while self._tasks:
            end = min(drained, self._worker.stop_deadline or math.inf)
            left = end - clock.monotonic() - settings.kill_grace - 1
            if left <= 0:
                break
            await asyncio.wait(self._tasks, timeout=min(left, DEADLINE_MOVES))
        self._desk.interrupt.set()
        if self._tasks:
            await asyncio.wait(self._tasks)
        emit("worker.drained")
