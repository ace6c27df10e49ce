"""Batches in tests: filled, driven look by look, and worked off by a mill instead of a worker."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from rolehost import clock
from rolehost.errors import StoreError
from rolehost.jobs.batches import Batch, BatchTable, NewBatch
from rolehost.jobs.batches.adding import Adder, Addition
from rolehost.jobs.batches.driver import BatchDriver, Rhythm
from rolehost.jobs.job import End, Job, JobState, Priority, Result, new_id
from rolehost.jobs.levels import queues_of
from rolehost.jobs.table import TABLE, JobTable, new_token
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import NewRow, Stores
from support.simulation.memory import MemoryQueue, MemoryStores

KIND = "work"
RUSHED = Rhythm(active=0.001, watching=0.001, idle=0.001, ahead=1.0, kept=0.0)


class Memory(MemoryStores):
    """Stores in memory with any queues.

    Args:
        near: as the embedded engine's; else as those that bill each request.
    """

    def __init__(self, *, near: bool = True) -> None:
        super().__init__(_queue("first", near=near), lambda *_: None, lambda _: None)
        self._near = near
        self._queues: dict[str, MemoryQueue] = {}

    def queue(self, name: str) -> MemoryQueue:
        return self._queues.setdefault(name, _queue(name, near=self._near))

    async def queues(self) -> Sequence[str]:
        return sorted(self._queues)

    async def submit(self, row: NewRow) -> str:
        version = await self.table(row.table).insert(row.key, row.fields, tag=row.tag)
        await self.queue(row.queue).put(row.message(version), message_id=row.message_id)
        return version


def _queue(name: str, *, near: bool) -> MemoryQueue:
    return MemoryQueue(name, random.Random(1), waits=near, doubles=0.0)  # noqa: S311 - an order, no secret


@dataclass
class Mill:
    """Works off what is in a queue, at once and without a program.

    Args:
        stores: where the jobs are; no faults.
        kind: whose queue.
        bad: names of sources that fail.
        runs: how often each job was run.
    """

    stores: Stores
    kind: str = KIND
    bad: frozenset[str] = frozenset()
    runs: Counter[str] = field(default_factory=Counter)

    async def grind(self, most: int = 1000) -> int:
        """Run what waits; how many that were."""
        queue = self.stores.queue(queues_of(self.kind)[Priority.NORMAL])
        done = 0
        while done < most:
            messages = await queue.receive(min(16, most - done), hide=60)
            if not messages:
                return done
            for message in messages:
                await self._run(WakeUp.decode(message.body))
                await queue.complete(message)
                done += 1
        return done

    async def _run(self, told: WakeUp) -> None:
        jobs = JobTable(self.stores.table(TABLE))
        job = await jobs.read(told.job)
        if job is not None and job.state is JobState.QUEUED:
            await self.run(job)

    async def run(self, job: Job) -> None:
        """Run one job."""
        jobs = JobTable(self.stores.table(TABLE))
        claim = await jobs.claim(
            job.spec, job.version, number=1, charges=job.charges, instance="Mill_IN_0", lease=60, token=new_token()
        )
        self.runs[job.id] += 1
        ended = replace(claim.attempt, ended_at=clock.now(), end=End.OK)
        if job.spec.source.name in self.bad:
            await jobs.fail(claim, replace(ended, end=End.BAD_INPUT), reason="it is bad")
            return
        content = b"".join([piece async for piece in self.stores.blobs.stream(job.spec.source.blob)])[::-1]
        blob = f"results/{job.id}/1-{claim.token}/result"
        facts = await self.stores.blobs.put(blob, content)
        result = Result(
            name=f"{job.spec.source.name}.out", size=facts.size, sha256=facts.sha256, type="text/plain", blob=blob
        )
        await jobs.complete(claim, ended, result)


async def add(stores: Stores, batch: Batch, folder: Path, names: Sequence[str], *, each: int = 100) -> None:
    """Add files whose content is their name, in slices of so many."""
    adder = Adder(stores, batch)
    items = []
    for name in names:
        path = folder / f"added-{new_id()}"
        path.write_text(f"content of {name}")
        addition = Addition(path=path, name=Path(name).name, folder=str(Path(name).parent) if "/" in name else "")
        items.append(await adder.item(addition))
        await adder.upload(items[-1], addition)
        path.unlink()
    for start in range(0, len(items), each):
        await adder.append(new_id(), items[start : start + each])


async def sealed(
    stores: Stores, folder: Path, count: int, *, name: str = "batch", asked: NewBatch | None = None, each: int = 100
) -> Batch:
    """A batch of so many items."""
    table = BatchTable(stores)
    batch = await table.create(asked or NewBatch(name=name, kind=KIND))
    await add(stores, batch, folder, [f"{name}-{number:04d}.txt" for number in range(count)], each=each)
    return await table.seal(batch.id)


def driver(stores: Stores, holder: str = "test") -> BatchDriver:
    """A driver that is stepped by hand."""
    return BatchDriver(stores, holder, rhythm=RUSHED)


async def step(driving: BatchDriver) -> None:
    """One look, and what it began."""
    with suppress(StoreError):
        await driving.look()
    await settle(driving)


async def settle(driving: BatchDriver) -> None:
    """Wait for what a driver has begun."""
    while tasks := list(driving._tasks.values()):
        await asyncio.wait(tasks)


async def work_off(stores: Stores, batch: str, driving: BatchDriver, mill: Mill, *, looks: int = 400) -> Batch:
    """Drive and grind until the batch is over."""
    table = BatchTable(stores)
    for _ in range(looks):
        await step(driving)
        now = await table.get(batch)
        if now.state.over:
            return now
        await mill.grind()
    raise AssertionError(f"the batch is not over: {await table.get(batch)}")
