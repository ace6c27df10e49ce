"""A job that takes more scratch than the local resource has is stopped, and says so; its neighbours go on."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.environment import LocalResource, RoleEnvironment
from rolehost.jobs.job import Charges, End, Job, JobSpec, JobState
from rolehost.workers import scratch_limit
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.outcome import Outcome
from rolehost.workers.processing import Attempt, process_message
from rolehost.workers.queue_worker import QueueWorker, _Loop
from rolehost.workers.scratch import Scratch
from rolehost.workers.scratch_limit import ScratchLimit
from support.jobs import KIND, Bench, open_bench, succeed, until

MEGABYTE = 1 << 20
# Writes so many MB, ignores TERM, and then waits to be ended.
GREEDY = "trap '' TERM; echo begun; head -c $(({size} * 1048576)) /dev/urandom > more; touch written; sleep 60 & wait"


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(scratch_limit, "_LOOK_EVERY", 0.05)
    async with open_bench(tmp_path) as bench:
        yield bench
        assert list(bench.root.iterdir()) == []


def limit_of(bench: Bench, megabytes: int) -> ScratchLimit:
    return ScratchLimit(LocalResource("Scratch", f"{bench.root}/", megabytes))


def greedy(bench: Bench, size: int) -> ConsoleAppWorker:
    class Greedy(ConsoleAppWorker):
        kind = KIND
        app = ConsoleApp(("/bin/sh", "-c", GREEDY.format(size=size)))

    made = Greedy()
    made.role_environment = RoleEnvironment.for_testing()
    made._settings = bench.desk.settings
    return made


async def process(bench: Bench, attempt: Attempt, limit: ScratchLimit) -> None:
    async with asyncio.timeout(10):
        await process_message(bench.desk, await bench.receive(), attempt, root=bench.root, limit=limit)


def last(row: Job) -> tuple[End | None, str]:
    return row.attempts[-1].end, row.attempts[-1].detail


async def test_an_application_beyond_the_limit_is_killed_and_the_reason_has_the_numbers(bench: Bench) -> None:
    job = await bench.submit()
    await process(bench, greedy(bench, 3).attempt, limit_of(bench, 2))
    row = await bench.row(job.id)
    attempt = row.attempts[0]
    assert (attempt.end, row.charges, row.state) == (End.KILLED, Charges(resource=1), JobState.QUEUED)
    told = r'sh was stopped: the local resource "Scratch" has 2 MB, and it took (2\.\d|3\.0) MB of it'
    assert re.fullmatch(told, attempt.detail)
    assert attempt.stdout == "begun\n"


async def test_within_the_limit_nothing_happens(bench: Bench) -> None:
    job = await bench.submit()
    running = asyncio.create_task(process(bench, greedy(bench, 1).attempt, limit_of(bench, 2)))
    assert not (await asyncio.wait([running], timeout=1))[0]
    bench.desk.interrupt.set()
    await running
    assert (await bench.row(job.id)).attempts[0].end is End.DRAINED


async def test_of_several_jobs_the_largest_goes(bench: Bench) -> None:
    limit = limit_of(bench, 6)
    jobs: list[Job] = []
    running: list[asyncio.Task[None]] = []
    for size in (1, 4, 2):
        if jobs:
            await until(lambda: written(bench, len(jobs)))
        jobs.append(await bench.submit())
        running.append(asyncio.create_task(process(bench, greedy(bench, size).attempt, limit)))
    await running[1]
    assert not (await asyncio.wait([running[0], running[2]], timeout=0.5))[0]
    bench.desk.interrupt.set()
    await asyncio.gather(*running)
    ends = [(await bench.row(job.id)).attempts[0] for job in jobs]
    assert [each.end for each in ends] == [End.DRAINED, End.KILLED, End.DRAINED]
    assert re.search(r"it took 4\.0 MB of it \(all jobs [67]\.\d MB\)", ends[1].detail)


async def written(bench: Bench, count: int) -> bool:
    return len(list(bench.root.glob("*/written"))) == count


async def test_a_worker_s_own_code_is_interrupted(bench: Bench) -> None:
    class Own(QueueWorker):
        kind = KIND

        async def process(self, job: JobSpec, scratch: Scratch) -> Path:
            del job
            (scratch.folder / "more").write_bytes(os.urandom(3 * MEGABYTE))
            await asyncio.Event().wait()
            raise AssertionError

    worker = Own()
    worker.role_environment = RoleEnvironment.for_testing()
    job = await bench.submit()
    await process(bench, worker.attempt, limit_of(bench, 2))
    end, detail = last(await bench.row(job.id))
    assert end is End.KILLED
    assert detail.startswith('the job was stopped: the local resource "Scratch" has 2 MB, and it took ')


async def test_what_ends_well_in_the_last_moment_counts(bench: Bench) -> None:
    async def stubborn(job: JobSpec, scratch: Scratch) -> Outcome:
        (scratch.folder / "more").write_bytes(os.urandom(3 * MEGABYTE))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await succeed(job, scratch)
        raise AssertionError

    job = await bench.submit()
    await process(bench, stubborn, limit_of(bench, 2))
    assert (await bench.row(job.id)).state is JobState.COMPLETED


async def test_a_queue_worker_takes_the_limit_from_its_resource(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = greedy(bench, 3)
    resource = LocalResource("Scratch", f"{bench.root}/", 2)
    monkeypatch.setattr(worker.role_environment, "get_local_resource", lambda _: resource)
    loop = _Loop(worker, bench.desk, bench.root)
    job = await bench.submit()
    await loop._process(await bench.receive(), lambda: None)
    assert (await bench.row(job.id)).attempts[0].end is End.KILLED


async def test_a_role_without_the_resource_has_no_limit(bench: Bench) -> None:
    limit = ScratchLimit.of(RoleEnvironment.for_testing())
    job = await bench.submit()
    running = asyncio.create_task(process(bench, greedy(bench, 3).attempt, limit))
    assert not (await asyncio.wait([running], timeout=0.7))[0]
    bench.desk.interrupt.set()
    await running
    assert (await bench.row(job.id)).attempts[0].end is End.DRAINED
