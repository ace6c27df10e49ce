"""Levels of priority, on every engine, and ordered groups, where the queue has sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import End, Job, JobSpec, JobState, Priority
from rolehost.jobs.poison import PoisonDesk
from rolehost.workers.levels import Levels
from rolehost.workers.outcome import Outcome
from rolehost.workers.queue_worker import QueueWorker, _Loop
from rolehost.workers.scratch import Scratch
from support.engines import AZURITE, EMBEDDED, SERVICE_BUS, Engine, every_engine, on_engines
from support.jobs import KIND, Bench, open_bench, until

pytestmark = pytest.mark.acceptance

SECONDS = 0.2


class Recorder(QueueWorker):
    """Notes the order in which jobs begin; those named are bad."""

    kind = KIND

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.bad: set[str] = set()
        self.more: Callable[[], Coroutine[None, None, None]] | None = None
        self.loop = asyncio.get_running_loop()

    async def process(self, job: JobSpec, scratch: Scratch) -> Path | Outcome:
        del scratch
        self.begun.append(job.id)
        if self.more is not None:
            # The stores belong to the test's loop, and this is not it.
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.more(), self.loop))
        await asyncio.sleep(SECONDS)
        return Outcome(end=End.POISON_NOW if job.id in self.bad else End.BAD_INPUT, detail="as planned")

    def place(self, job: Job) -> int:
        return self.begun.index(job.id)


@asynccontextmanager
async def one_slot(folder: Path, engine: Engine) -> AsyncIterator[Bench]:
    """A bench whose worker has one slot, and receives from all levels."""
    async with open_bench(folder, engine=engine, slots=1, lease=12.0) as bench:
        bench.desk = replace(bench.desk, queue=Levels(bench.stores, KIND))
        yield bench


async def jobs_left(bench: Bench) -> int:
    return (await bench.desk.jobs.counts())[JobState.QUEUED.value]


@asynccontextmanager
async def at_work(bench: Bench, worker: QueueWorker) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(_Loop(worker, bench.desk, bench.root).work(stopping))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, 30)


async def submit(bench: Bench, number: int, **more: Any) -> Sequence[Job]:
    return [await bench.submit(**more) for _ in range(number)]


async def begun(worker: Recorder, *jobs: Job) -> None:
    async def all_of_them() -> bool:
        return {job.id for job in jobs} <= set(worker.begun)

    await until(all_of_them, 60)


@every_engine
async def test_a_high_job_overtakes_a_backlog(tmp_path: Path, engine: Engine) -> None:
    worker = Recorder()
    async with one_slot(tmp_path, engine) as bench:
        backlog = await submit(bench, 18)
        (first,) = await submit(bench, 1, priority=Priority.HIGH)
        async with at_work(bench, worker):
            await begun(worker, first, backlog[0])
            (second,) = await submit(bench, 1, priority=Priority.HIGH)
            await begun(worker, second)
            left = await jobs_left(bench)
    # What was fetched already, a second's work, may come before it; and a receive, on the way to the broker.
    assert worker.place(first) <= 1
    assert worker.place(second) <= 12
    assert left >= 5


@every_engine
async def test_a_low_job_completes_under_a_stream_of_normal_ones(tmp_path: Path, engine: Engine) -> None:
    worker = Recorder()
    async with one_slot(tmp_path, engine) as bench:
        await submit(bench, 14)
        low, other = await submit(bench, 2, priority=Priority.LOW)

        async def one_more() -> None:
            if other.id not in worker.begun:
                await bench.submit()

        worker.more = one_more
        async with at_work(bench, worker):
            await begun(worker, low, other)
            worker.more = None
            left = await jobs_left(bench)
    assert left >= 10  # there was normal work all the time
    assert worker.place(low) >= 3


@every_engine
async def test_a_replay_keeps_its_level_and_the_desk_shows_every_level(tmp_path: Path, engine: Engine) -> None:
    worker = Recorder()
    async with one_slot(tmp_path, engine) as bench:
        (low,) = await submit(bench, 1, priority=Priority.LOW)
        worker.bad = {low.id}
        async with at_work(bench, worker):
            await begun(worker, low)

            async def poisoned() -> bool:
                return (await bench.row(low.id)).state is JobState.POISONED

            await until(poisoned, 20)
        desk = PoisonDesk(bench.inner)
        queue = bench.inner.queue(f"{KIND}-jobs-low")

        async def buried() -> bool:
            return bool((await queue.dead(5)).messages)

        await until(buried, 20)
        assert [entry.id for entry in (await desk.list()).entries] == [low.id]
        again = await desk.replay(low.id)
        assert again.spec.priority is Priority.LOW
        assert again.to_json()["priority"] == "low"
        await desk.purge(low.id)
        assert not await buried()


class Groups(QueueWorker):
    """Notes the order in which jobs end; the first attempt of those named fails."""

    kind = KIND

    def __init__(self, done: list[tuple[str, str]], fails: set[str]) -> None:
        self.done = done
        self.fails = fails

    async def process(self, job: JobSpec, scratch: Scratch) -> Path | Outcome:
        del scratch
        await asyncio.sleep(SECONDS)
        if job.id in self.fails:
            self.fails.discard(job.id)
            return Outcome(end=End.APP_ERROR, detail="as planned")
        self.done.append((job.group, job.id))
        return Outcome(end=End.BAD_INPUT, detail="as planned")


@on_engines(SERVICE_BUS)
async def test_jobs_of_a_group_run_one_after_the_other_in_the_order_of_submission(
    tmp_path: Path, engine: Engine
) -> None:
    done: list[tuple[str, str]] = []
    async with open_bench(tmp_path, engine=engine, slots=3, lease=12.0, retry_base=1.5, retry_max=2.0) as bench:
        groups = {name: [await bench.submit(group=name) for _ in range(4)] for name in ("red", "blue")}
        usual = await bench.submit()
        fails = {groups["red"][1].id}
        worker, other = Groups(done, fails), Groups(done, fails)
        bench.desk = replace(bench.desk, queue=Levels(bench.stores, KIND))
        (tmp_path / "other").mkdir()
        desk = replace(bench.other(), queue=Levels(bench.stores, KIND))
        stopping = asyncio.Event()
        loops = [
            asyncio.create_task(_Loop(worker, bench.desk, bench.root).work(stopping)),
            asyncio.create_task(_Loop(other, desk, bench.root).work(stopping)),
        ]

        async def all_done() -> bool:
            return len(done) == 9

        await until(all_done, 60)
        stopping.set()
        await asyncio.wait_for(asyncio.gather(*loops), 30)
        again = await bench.row(groups["red"][1].id)
    for name, jobs in groups.items():
        assert [each for group, each in done if group == name] == [job.id for job in jobs]
    assert len(again.attempts) == 2
    assert usual.id in {each for _, each in done}
    assert usual.to_json().get("group") is None
    assert again.to_json()["group"] == "red"


@on_engines(EMBEDDED, AZURITE)
async def test_a_group_is_refused_where_jobs_can_not_be_kept_in_order(tmp_path: Path, engine: Engine) -> None:
    async with open_bench(tmp_path, engine=engine) as bench:
        with pytest.raises(InvalidParameterError, match="needs queues on Azure Service Bus") as told:
            await bench.submit(group="red")
        assert told.value.field == "group"
        assert not await bench.blobs("inputs/")
        with pytest.raises(InvalidParameterError, match="this queue has no sessions"):
            await bench.inner.queue(f"{KIND}-jobs").put("x", message_id="x", session="red")


@on_engines(SERVICE_BUS)
async def test_a_group_has_no_priority(tmp_path: Path, engine: Engine) -> None:
    async with open_bench(tmp_path, engine=engine) as bench:
        with pytest.raises(InvalidParameterError, match="a job of a group has no priority"):
            await bench.submit(group="red", priority=Priority.HIGH)
