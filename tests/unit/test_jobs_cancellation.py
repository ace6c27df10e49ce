"""Cancelling: one conditional write, and whoever runs the job stops soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from rolehost.errors import InvalidParameterError, UnknownJobError
from rolehost.jobs.cancellation import cancel
from rolehost.jobs.job import End, JobSpec, JobState
from rolehost.workers.outcome import Outcome
from rolehost.workers.scratch import Scratch
from support.jobs import Bench, claimed, open_bench, succeed, until


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, lease=30.0) as made:
        yield made


async def test_a_queued_job_is_never_run(bench: Bench) -> None:
    job = await bench.submit()
    cancelled = await cancel(bench.desk.jobs, job.id, reason="no longer needed")
    assert (cancelled.state, cancelled.reason) == (JobState.CANCELLED, "no longer needed")
    await bench.process(succeed)
    assert (await bench.row(job.id)).attempts == ()
    assert await bench.counts() == (0, 0, 0)


async def test_a_running_job_is_stopped_long_before_its_lease_is_renewed(bench: Bench) -> None:
    job = await bench.submit()
    running, stopped = asyncio.Event(), asyncio.Event()

    async def attempt(_job: JobSpec, _scratch: Scratch) -> Outcome:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError("it waits for ever")

    process = asyncio.create_task(bench.process(attempt))
    await running.wait()
    await cancel(bench.desk.jobs, job.id)
    async with asyncio.timeout(5):
        await stopped.wait()
        await process
    row = await bench.row(job.id)
    assert row.state is JobState.CANCELLED
    assert [attempt.end for attempt in row.attempts] == [End.CANCELLED]
    assert row.charges.to_json() == {"app": 0, "resource": 0, "lost": 0}
    assert bench.told("attempt.cancelled")
    assert not bench.told("lease.lost")
    assert not list(bench.root.iterdir())


async def test_cancelling_again_is_no_error_and_changes_nothing(bench: Bench) -> None:
    job = await bench.submit()
    first = await cancel(bench.desk.jobs, job.id)
    assert await cancel(bench.desk.jobs, job.id, reason="again") == first


async def test_what_is_over_or_unknown_is_refused(bench: Bench) -> None:
    job = await bench.submit()
    await bench.process(succeed)
    with pytest.raises(InvalidParameterError, match="completed"):
        await cancel(bench.desk.jobs, job.id)
    with pytest.raises(UnknownJobError):
        await cancel(bench.desk.jobs, "01a1fb6c-984b-78a8-93de-a6c5e2558349")


@pytest.mark.parametrize("times", [1, 2])
async def test_a_lost_answer_is_looked_up(bench: Bench, times: int) -> None:
    job = await bench.submit()
    bench.faults.lose_answer("jobs.write", times=times)
    assert (await cancel(bench.desk.jobs, job.id)).state is JobState.CANCELLED


async def test_a_cancel_that_races_with_the_commit_leaves_one_terminal_state(bench: Bench) -> None:
    for delay in (0.0, 0.001, 0.002, 0.004, 0.008, 0.016):
        job = await bench.submit()
        process = asyncio.create_task(bench.process(succeed))
        await asyncio.sleep(delay)
        refused = False
        try:
            await cancel(bench.desk.jobs, job.id)
        except InvalidParameterError:
            refused = True
        await process
        row = await bench.row(job.id)
        assert row.state is (JobState.COMPLETED if refused else JobState.CANCELLED)
        assert (row.result is not None) == refused


async def test_a_row_that_moved_on_is_read_again(bench: Bench) -> None:
    job = await bench.submit()
    read, moved = bench.desk.jobs.read, False

    async def read_then_move(job_id: str) -> object:
        nonlocal moved
        found = await read(job_id)
        if not moved:
            moved = True
            await claimed(bench.other(), await bench.row(job_id))
        return found

    bench.desk.jobs.read = read_then_move  # type: ignore[method-assign, assignment]
    assert (await cancel(bench.desk.jobs, job.id)).state is JobState.CANCELLED
    await until(lambda: _ended(bench, job.id))


async def _ended(bench: Bench, job_id: str) -> bool:
    return [attempt.end for attempt in (await bench.row(job_id)).attempts] == [End.CANCELLED]
