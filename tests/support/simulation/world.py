"""One schedule: processes that submit, work, sweep and cancel; everything that may happen to them; and the verdict."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from rolehost import clock
from rolehost.errors import ConflictError, StoreError, StoreUnavailableError
from rolehost.jobs.codec import job_from_row
from rolehost.jobs.job import End, JobSpec, JobState
from rolehost.jobs.recovery import OUTBOX, Recovery
from rolehost.jobs.retention import RetentionRules
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.sweeper import TABLE as LEASES
from rolehost.jobs.sweeper import Sweeper
from rolehost.jobs.table import BURIED, DEBT, TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.testing import FaultyStores
from rolehost.workers.desk import Desk
from rolehost.workers.outcome import Outcome
from rolehost.workers.queue_worker import QueueWorker, _Loop
from rolehost.workers.scratch import Scratch
from rolehost.workers.settings import WorkerSettings
from support.history import check
from support.simulation.bus import BusQueue
from support.simulation.engines import ENGINES, queue_of, stores_of
from support.simulation.memory import MemoryStores
from support.simulation.monitors import LEASE, RETENTION, Monitors
from support.simulation.processes import Ills, Process
from support.simulation.virtual import BEGINNING, VirtualLoop, simulated, skew

__all__ = ["ENGINES", "Verdict", "run"]

KIND = "work"
TROUBLE = 900.0
LOOK_EVERY = 30.0
PATIENCE = 12 * 3600.0
ILLS = ("ok",) * 12 + ("app_error", "bad_input", "oom", "kills", "disk_full", "hog")

_process: ContextVar[Process | None] = ContextVar("process", default=None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a schedule showed: violations by name, how much happened, and its history."""

    violations: Counter[str]
    facts: Counter[str]
    history: Sequence[Mapping[str, Any]]


class _Worker(QueueWorker):
    """A worker whose console application does what the schedule says of its job."""

    kind = KIND

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        self._world.attempts += 1
        try:
            return await self._attempt(job, scratch)
        finally:
            self._world.attempts -= 1

    async def _attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        chance, kind = self._world.chance, self._world.applications[job.id]
        seconds = chance.choice((1.0, 5.0, 45.0, 130.0))
        if kind == "kills" and self._world.trouble:
            await asyncio.sleep(seconds * chance.random())
            self._process.die()
        if kind == "hog":
            self._process.thaws_at = clock.monotonic() + 2 * LEASE
        await self._run(scratch, seconds)
        end = {"app_error": End.APP_ERROR, "bad_input": End.BAD_INPUT, "oom": End.OOM, "disk_full": End.DISK_FULL}
        if kind in end:
            return Outcome(end=end[kind], detail=kind)
        result = scratch.folder / "result"
        result.write_bytes(chance.randbytes(16))
        return Outcome(end=End.OK, result=result, result_name="result")

    async def _run(self, scratch: Scratch, seconds: float) -> None:
        """Half of the applications say how far they have come, in leaps or in small steps, and at last too much."""
        steps = self._world.chance.choice((0, 0, 3, 40))
        for step in range(steps):
            await asyncio.sleep(seconds / steps)
            scratch.report(step * 110 / steps)
        if not steps:
            await asyncio.sleep(seconds)


class World:
    """A schedule's stores, processes and chance."""

    def __init__(self, seed: int, engine: str, folder: Path) -> None:
        self.chance = chance = random.Random(seed)  # noqa: S311 - a schedule has to be repeatable
        self.engine = engine
        self.folder = folder
        self.trouble = True
        clean = chance.random() < 0.1
        self.p_die = 0.0 if clean else chance.choice((0, 0.005, 0.02))
        self.p_lost = 0.0 if clean else chance.choice((0, 0.03, 0.12))
        self.p_freeze = 0.0 if clean else chance.choice((0, 0.005, 0.02))
        self.applications: dict[str, str] = {}
        self.accepted: set[str] = set()
        self.processes: list[Process] = []
        self.monitors = Monitors()
        self.queue = queue_of(engine, f"{KIND}-jobs", chance, clean=clean)
        self.stores = MemoryStores(self.queue, self.monitors.changed, self.monitors.removed_blob)
        self.monitors.blobs = self.stores.blobs
        self.attempts = 0
        """How many console applications run."""
        self._background: set[asyncio.Task[Any]] = set()
        self._late: set[asyncio.Task[Any]] = set()
        self.settings = WorkerSettings(
            disk_floor=0,
            lease=LEASE,
            slots=chance.choice((1, 2)),
            deadline=1800.0,
            retry_max=120.0,
            drain=10.0,
            term_grace=2.0,
        )

    def later(self, work: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Apply a call after its caller has given up."""

        async def apply() -> None:
            await asyncio.sleep(seconds)
            with suppress(StoreError, FileNotFoundError):  # the caller's directory may be gone
                await work()

        task = self._keep(apply())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def start(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something as this process."""

        async def within() -> None:
            _process.set(process)
            skew.set(process.skew)
            task = asyncio.create_task(work)
            await asyncio.wait([task])
            if not task.cancelled() and not isinstance(task.exception(), StoreError | None):
                self.monitors.flag(f"{process.name.partition(' ')[0]} raised {task.exception()!r}")

        return self._keep(within())

    def process(self, name: str) -> tuple[Process, FaultyStores]:
        process = Process(name, self.chance.choice((0.0, 0.0, -15.0, 15.0)) if self.p_lost else 0.0)
        self.processes.append(process)
        if isinstance(self.queue, BusQueue):
            process.connection = self.queue
        return process, stores_of(self.engine, self.stores, Ills(self, process), process, self.p_lost)

    # what runs

    async def submit(self, number: int) -> None:
        process, stores = self.process(f"submitter {number}")
        stamp = int((BEGINNING.timestamp() + clock.monotonic()) * 1000)
        job_id = str(UUID(int=stamp << 80 | 7 << 76 | 2 << 62 | self.chance.getrandbits(62)))
        self.applications[job_id] = self.chance.choice(ILLS)
        asset = self.folder / f"asset-{number}"
        asset.write_bytes(b"asset %d" % number)

        async def place() -> None:
            asked = Submission(path=asset, name="asset", kind=KIND)
            self.monitors.tell("asked", job=job_id)
            await Submitter(stores).place(asked, job_id, {}, "application/octet-stream")
            self.accepted.add(job_id)
            self.monitors.tell("accepted", job=job_id)

        await asyncio.sleep(self.chance.uniform(0, 60))
        await self.start(process, place())
        if self.chance.random() < 0.15:
            await asyncio.sleep(self.chance.uniform(0, 300))
            canceller, others = self.process(f"canceller {number}")
            self.start(canceller, self.cancel(others, job_id))

    async def cancel(self, stores: FaultyStores, job_id: str) -> None:
        jobs = JobTable(stores.table(TABLE))
        for _ in range(5):
            try:
                job = await jobs.read(job_id)
                if job is None or job.state.terminal:
                    return
                await jobs.cancel(job)
            except (ConflictError, StoreUnavailableError):
                continue

    async def work(self, number: int) -> None:
        """A worker, and another one whenever it died or drained."""
        for life in itertools.count():
            process, stores = self.process(f"worker {number}.{life}")
            root = self.folder / process.name
            root.mkdir()
            desk = Desk(
                stores=stores,
                jobs=JobTable(stores.table(TABLE)),
                queue=stores.queue(self.queue.name),
                settings=self.settings,
                instance=process.name,
            )
            stopping = asyncio.Event()
            drains = self.trouble and self.chance.random() < 0.3
            if drains:
                asyncio.get_running_loop().call_later(self.chance.uniform(20, 500), stopping.set)
            await self.start(process, _Loop(_Worker(self, process), desk, root).work(stopping))
            process.die()
            await asyncio.sleep(self.chance.uniform(0.1, 30))

    async def sweep(self, number: int) -> None:
        for life in itertools.count():
            process, stores = self.process(f"sweeper {number}.{life}")
            rules = RetentionRules(completed=timedelta(seconds=RETENTION))
            recovery = Recovery(stores, lease=LEASE, rules=rules)
            await self.start(process, Sweeper(recovery, stores.table(LEASES), process.name).run())
            process.die()
            await asyncio.sleep(self.chance.uniform(0.1, 30))

    # how it ends

    def open_work(self) -> list[str]:
        table = self.stores.table(TABLE)
        found = [f"{row.key} is {row.tag}" for row in table.rows.values() if row.tag in {"queued", "running"}]
        found += [f"{note.kind} of {note.key}" for note in table.kept_notes if note.kind in {OUTBOX, DEBT}]
        found += ["a message"] if self.queue.held else []
        return found + self.garbage()

    def quiet(self) -> bool:
        """Whether nothing is left that could still happen: no work, nobody frozen, nothing on its way."""
        now = clock.monotonic()
        alive = [process for process in self.processes if not process.dead]
        passing = [process for process in alive if process.tasks and not process.name.startswith(("worker", "sweeper"))]
        frozen = [process for process in alive if process.thaws_at > now]
        return not (passing or frozen or self._late or self.attempts or self.open_work())

    def garbage(self) -> list[str]:
        rows = self.stores.table(TABLE).rows
        jobs = [job_from_row(row) for row in rows.values() if row.tag != BURIED]
        named = {job.result.blob for job in jobs if job.result} | {job.spec.source.blob for job in jobs}
        return [name for name in self.stores.blobs.content if name not in named]

    def dead_lettered(self) -> set[str]:
        return {WakeUp.decode(message.body).job for message in self.queue.letters.values()}

    def history(self) -> list[dict[str, Any]]:
        """All that happened, as the soak and the tests with real processes write it down, too."""
        content = self.stores.blobs.content
        results = {name: sha256(blob).hexdigest() for name, blob in content.items() if name.startswith("results/")}
        self.monitors.tell("left", results=results, dead=sorted(self.dead_lettered()))
        return self.monitors.events

    def judge(self) -> None:
        flag = self.monitors.flag
        rows = self.stores.table(TABLE).rows
        for job_id in self.accepted:
            row = rows.get(job_id)
            if row is not None and row.tag in {"queued", "running"}:
                flag("an accepted job is still open")
            if row is not None and row.tag == JobState.POISONED and job_id not in self.dead_lettered():
                flag("a poisoned job has no dead letter")
            if row is not None and row.tag == BURIED:
                flag("an accepted job was buried")
        for what in self.open_work():
            flag(f"left over: {what.rpartition(' ')[2] if ' of ' not in what else what.partition(' ')[0]}")
        for name, found in asdict(check(self.history())).items():
            if found and isinstance(found, list):
                flag(f"the history: {name}")


def run(seed: int, engine: str) -> Verdict:
    """One schedule, from its seed.

    Args:
        seed: decides everything.
        engine: one of `ENGINES`.
    """
    loop = VirtualLoop()
    loop.set_task_factory(_owned)  # type: ignore[arg-type]
    folder = Path(tempfile.mkdtemp(prefix="rolehost-simulation-", dir=_memory()))
    try:
        world = World(seed, engine, folder)
        with simulated(loop, seed):
            loop.run_until_complete(_schedule(world))
        return Verdict(world.monitors.violations, world.monitors.facts, world.monitors.events)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        loop.close()


async def _schedule(world: World) -> None:
    begun = [world.submit(number) for number in range(world.chance.randint(1, 3))]
    actors: Sequence[Coroutine[Any, Any, None]] = [
        *(world.work(number) for number in range(world.chance.randint(1, 3))),
        *(world.sweep(number) for number in range(world.chance.randint(1, 2))),
    ]
    tasks = [asyncio.create_task(actor) for actor in (*begun, *actors)]
    await _trouble(world, tasks[: len(begun)])
    world.trouble = False
    while world.open_work() and clock.monotonic() < PATIENCE:  # noqa: ASYNC110 - simulated
        await asyncio.sleep(60)
    world.judge()
    for process in world.processes:
        process.die()
    while left := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left)


async def _trouble(world: World, begun: Sequence[asyncio.Task[None]]) -> None:
    """As long as something can happen to somebody; twice quiet is quiet, as a call may be under way at one look."""
    quiet = 0
    while quiet < 2 and clock.monotonic() < TROUBLE:
        await asyncio.sleep(LOOK_EVERY)
        quiet = quiet + 1 if all(task.done() for task in begun) and world.quiet() else 0


def _owned(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """A task that its process knows, so that it dies with it."""
    task = asyncio.Task(work, loop=loop, **options)
    process = _process.get()
    if process is not None:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
    return task


def _memory() -> str | None:
    """Where files cost no disk; mkdtemp makes a private directory in it."""
    shared = Path("/dev/shm")  # noqa: S108 - see above
    return str(shared) if shared.is_dir() else None
