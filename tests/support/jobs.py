"""A worker's desk over real stores that fail on demand, for the tests of jobs and workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from rolehost import clock
from rolehost.errors import StoreUnavailableError
from rolehost.jobs.job import Attempt, Charges, End, Job, JobSpec, Result, Source, new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, Claim, JobTable, new_token
from rolehost.stores import QueueMessage, Stores
from rolehost.telemetry import subscribe
from rolehost.testing import Faults, FaultyStores
from rolehost.workers.desk import Desk
from rolehost.workers.outcome import Outcome
from rolehost.workers.processing import process_message
from rolehost.workers.scratch import Scratch
from rolehost.workers.settings import WorkerSettings
from support.engines import EMBEDDED, Engine

KIND = "work"
CONTENT = b"an asset"


@dataclass(kw_only=True)
class Bench:
    """Stores with faults, and what works on them.

    Args:
        inner: the stores below the faults: reading through them shows what is really there.
        stores: the stores that the code under test gets.
        faults: what is to go wrong, and what was called.
        desk: a worker's.
        folder: the test's own.
    """

    inner: Stores
    stores: Stores
    faults: Faults
    desk: Desk
    folder: Path
    facts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """Where scratch directories are made."""
        return self.folder / "scratch"

    @property
    def submitter(self) -> Submitter:
        """A process's submitter: each is another process."""
        return Submitter(self.stores)

    def asked(self, content: bytes = CONTENT, **more: Any) -> Submission:
        """A request for a job."""
        path = self.folder / f"asset-{new_id()}"
        path.write_bytes(content)
        return Submission(**{"path": path, "name": "asset.bin", "kind": KIND, **more})

    async def submit(self, **more: Any) -> Job:
        """A job in the queue."""
        return await Submitter(self.inner).submit(self.asked(**more))

    async def old_job(self, age: timedelta) -> Job:
        """A job that was submitted long ago, by a row and a message like any other's."""
        job = await self.submit()
        row = await self.inner.table(TABLE).read(job.id)
        assert row is not None
        then = clock.iso(clock.now() - age)
        await self.inner.table(TABLE).write(job.id, row.version, {"submitted_at": then})
        return await self.row(job.id)

    async def receive(self, within: float = 10.0) -> QueueMessage:
        """The next message."""
        queue = self.inner.queue(self.desk.queue.name)
        (message,) = await queue.receive(1, hide=self.desk.settings.lease, wait=within)
        return message

    async def row(self, job_id: str) -> Job:
        """The job as it is now."""
        job = await JobTable(self.inner.table(TABLE)).read(job_id)
        assert job is not None
        return job

    async def counts(self) -> tuple[int | None, int | None, int | None]:
        """How many messages are visible, hidden and dead."""
        counted = await self.inner.queue(self.desk.queue.name).counts()
        return counted.visible, counted.hidden, counted.dead

    async def blobs(self, prefix: str) -> Sequence[str]:
        """Names of blobs."""
        return (await self.inner.blobs.list(prefix)).names

    def reads(self) -> int:
        """How many job rows were read through the faults."""
        return self.faults.calls.count(f"{TABLE}.read")

    def told(self, event: str) -> list[dict[str, Any]]:
        """The facts that were emitted under a name."""
        return [facts for name, facts in self.facts if name == event]

    def other(self, **settings: Any) -> Desk:
        """Another worker's desk, over the same stores without faults."""
        return replace(
            self.desk,
            stores=self.inner,
            jobs=JobTable(self.inner.table(TABLE)),
            queue=self.inner.queue(self.desk.queue.name),
            settings=replace(self.desk.settings, **settings),
            instance="Other_IN_0",
            interrupt=asyncio.Event(),
        )

    async def process(self, attempt: Callable[[JobSpec, Scratch], Awaitable[Outcome]], within: float = 10.0) -> None:
        """Receive a message and take it from end to end."""
        await process_message(self.desk, await self.receive(within), attempt, root=self.root)

    async def end_once(self, end: End, detail: str = "as planned", **more: Any) -> None:
        """One attempt with this end."""

        async def attempt(_job: JobSpec, _scratch: Scratch) -> Outcome:
            return Outcome(end=end, detail=detail, **more)

        await self.process(attempt)


@asynccontextmanager
async def open_bench(folder: Path, *, engine: Engine = EMBEDDED, **settings: Any) -> AsyncIterator[Bench]:
    """A bench in a directory of the test's own; leases of two seconds, retries almost at once."""
    chosen = {"lease": 2.0, "term_grace": 0.3, "retry_base": 0.01, "retry_max": 0.05, "drain": 2.0, **settings}
    (folder / "scratch").mkdir()
    async with engine.open(folder) as inner:
        faults = Faults()
        stores = FaultyStores(inner, faults)
        desk = Desk(
            stores=stores,
            jobs=JobTable(stores.table(TABLE)),
            queue=stores.queue(kind_named(KIND).queue),
            settings=WorkerSettings(**chosen),
            instance="Worker_IN_0",
        )
        bench = Bench(inner=inner, stores=stores, faults=faults, desk=desk, folder=folder)
        with recorded(bench.facts):
            yield bench


@contextmanager
def recorded(facts: list[tuple[str, dict[str, Any]]]) -> Iterator[None]:
    """Keep all that is emitted."""
    stop = subscribe(lambda event, told: facts.append((event, told)))
    try:
        yield
    finally:
        stop()


async def until(condition: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    """Wait for what no event tells of."""
    deadline, pause = time.monotonic() + within, 0.005
    while not await _answered(condition, deadline):
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(pause)
        pause = min(1.2 * pause, 0.1)  # who asks all the time slows down what is waited for


async def _answered(condition: Callable[[], Awaitable[bool]], deadline: float) -> bool:
    """The condition, where stores answer; those that don't are asked again until the deadline."""
    try:
        return await condition()
    except StoreUnavailableError:
        if time.monotonic() >= deadline:
            raise
        return False


async def succeed(job: JobSpec, scratch: Scratch) -> Outcome:
    """An attempt whose result is the asset, backwards."""
    result = scratch.folder / "result.txt"
    result.write_bytes(scratch.source.read_bytes()[::-1])
    return Outcome(end=End.OK, result=result, result_name=f"{job.source.name}.txt", result_type="text/plain")


def a_spec(**more: Any) -> JobSpec:
    """A spec of no job in any store."""
    job_id = new_id()
    source = Source(name="asset.bin", size=8, type="application/octet-stream", blob=f"inputs/{job_id}/source")
    facts = {"id": job_id, "kind": KIND, "submitted_at": clock.now(), "parameters": {"n": "1"}, "source": source}
    return JobSpec(**{**facts, **more})


async def claimed(desk: Desk, job: Job, **more: Any) -> Claim:
    """A claim on a row as it was read, without a message."""
    facts: dict[str, Any] = {
        "number": job.attempt + 1,
        "charges": job.charges,
        "instance": desk.instance,
        "lease": desk.settings.lease,
        "token": new_token(),
    }
    return await desk.jobs.claim(job.spec, job.version, **{**facts, **more})


def ended(attempt: Attempt, end: End, detail: str = "") -> Attempt:
    """The attempt with its end."""
    return replace(attempt, ended_at=clock.now(), end=end, detail=detail)


def charges(**counts: int) -> Charges:
    """Charges by name."""
    return Charges(**counts)


async def called(bench: Bench, call: str) -> bool:
    """Whether a call has been made."""
    return call in bench.faults.calls


async def overtake(bench: Bench, job_id: str) -> Job:
    """Another worker takes the job over and completes it; the answer is the row as it is from now on."""
    other = await claimed(bench.other(), await bench.row(job_id))
    blob = f"results/{job_id}/{other.attempt.number}-{other.token}/result"
    facts = await bench.inner.blobs.put(blob, b"the other's")
    result = Result(name="r", size=facts.size, sha256=facts.sha256, type="text/plain", blob=blob)
    await bench.other().jobs.complete(other, ended(other.attempt, End.OK), result)
    return await bench.row(job_id)
