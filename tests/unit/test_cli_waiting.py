"""Waiting for jobs, few and many, and how far it has come."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.cli.display import Lines
from rolehost.cli.opening import service_runs
from rolehost.cli.waiting import FEW, Waiting
from rolehost.host.paths import DataDirectory
from rolehost.jobs.job import End, Job
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from support.commands import ended, submitted


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    DataDirectory.at(tmp_path / "data")
    async with connect({"ROLEHOST_DATA": str(tmp_path / "data")}) as opened:
        yield opened


@pytest.mark.parametrize("number", [3, FEW + 5])
async def test_it_sees_every_job_end(stores: Stores, tmp_path: Path, number: int) -> None:
    table = JobTable(stores.table(TABLE))
    jobs = [await submitted(stores, tmp_path, f"{each}.png") for each in range(number)]
    others = [await submitted(stores, tmp_path, f"other-{each}.png") for each in range(3)]
    counted: list[int] = []
    first_look, only_one_left = asyncio.Event(), asyncio.Event()

    def note(count: int) -> None:
        counted.append(count)
        first_look.set()
        if count >= number - 1:
            only_one_left.set()

    waiting = Waiting(table, [job.id for job in jobs], note)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(waiting.run(None))
        await first_look.wait()
        assert len(waiting.open) == number
        await ended(stores, jobs[0], End.DRAINED)  # back in the queue: still open
        for job in jobs[1:]:
            await ended(stores, job, End.OK, exit_code=0)
        await only_one_left.wait()
        assert waiting.open == (jobs[0].id,)
        again = await table.read(jobs[0].id)
        assert again is not None
        await table.cancel(again)
        assert await running
    states = {job_id: job.state for job_id, job in waiting.ended.items() if job}
    assert states == {jobs[0].id: "cancelled"} | {job.id: "completed" for job in jobs[1:]}
    assert counted == sorted(counted)
    assert counted[-1] == number
    assert not {job.id for job in others} & set(waiting.ended)


async def test_a_job_that_is_removed_has_ended_as_nothing(stores: Stores, tmp_path: Path) -> None:
    table = JobTable(stores.table(TABLE))
    job = await submitted(stores, tmp_path)
    bad = await ended(stores, job, End.POISON_NOW, final="poison")
    await table.remove(bad)
    waiting = Waiting(table, [bad.id], lambda _: None)
    assert await waiting.run(5)
    assert waiting.ended == {bad.id: None}


async def test_it_gives_up_in_time(stores: Stores, tmp_path: Path) -> None:
    job: Job = await submitted(stores, tmp_path)
    waiting = Waiting(JobTable(stores.table(TABLE)), [job.id], lambda _: None)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert not await waiting.run(0.25)
    assert 0.2 < loop.time() - began < 2
    assert waiting.open == (job.id,)


def test_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as lines:
        for done in range(101):
            lines.show("ended", done, 100)
        lines.show("ended", 100, 100)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "ended: 100 of 100\n")


def test_whether_a_service_runs_is_told_by_its_lock(tmp_path: Path) -> None:
    assert not service_runs(tmp_path)
    with (tmp_path / "up.lock").open("w") as lock:
        assert not service_runs(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert service_runs(tmp_path)
    assert not service_runs(tmp_path)
