"""Two that write about one job at the same moment: one of them wins, whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost import failpoints
from rolehost.errors import InvalidParameterError
from rolehost.jobs.cancellation import cancel
from rolehost.jobs.job import End, JobSpec, JobState
from rolehost.jobs.wake_up import WakeUp
from rolehost.workers.outcome import Outcome
from rolehost.workers.scratch import Scratch
from support.jobs import Bench, open_bench, succeed

RACES = 30


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


@pytest.mark.parametrize("point", ["before-commit", "after-commit", "after-upload"])
async def test_a_cancel_around_the_commit_leaves_exactly_one_terminal_state(bench: Bench, point: str) -> None:
    """Again and again, a little later each time."""
    for race in range(RACES):
        job = await bench.submit()
        cancelling: list[asyncio.Task[bool]] = []

        def strike(name: str, job_id: str, race: int = race, begun: list[asyncio.Task[bool]] = cancelling) -> float:
            if name != point:
                return 0.0
            begun.append(asyncio.get_running_loop().create_task(_cancelled(bench, job_id)))
            return race * 0.0002

        taken_away = failpoints.install(strike)
        try:
            while not cancelling:  # a cancelled job's message may come once more first
                await bench.process(succeed)
        finally:
            taken_away()
        (cancelled,) = await asyncio.gather(*cancelling)
        row = await bench.row(job.id)
        assert row.state is (JobState.CANCELLED if cancelled else JobState.COMPLETED)
        assert (row.result is None) == cancelled
        assert [attempt.end for attempt in row.attempts] == [End.CANCELLED if cancelled else End.OK]
        assert await bench.row(job.id) == row


async def _cancelled(bench: Bench, job_id: str) -> bool:
    try:
        await cancel(bench.desk.jobs, job_id)
    except InvalidParameterError:
        return False
    return True


async def test_an_attempt_never_publishes_what_another_one_left(bench: Bench) -> None:
    """The first uploads its result and gets no further; the second makes another one."""

    def making(content: bytes) -> object:
        async def attempt(job: JobSpec, scratch: Scratch) -> Outcome:
            outcome = await succeed(job, scratch)
            assert outcome.result is not None
            outcome.result.write_bytes(content)
            return outcome

        return attempt

    job = await bench.submit()
    bench.faults.refuse("jobs.write", at=2, times=None)
    await bench.process(making(b"the first one's"))  # type: ignore[arg-type]
    bench.faults.clear()
    row = await bench.row(job.id)
    assert row.state is JobState.RUNNING
    assert len(await bench.blobs(f"results/{job.id}/")) == 1
    found = WakeUp(job=job.id, spec=job.spec, seen=row.version)
    await bench.stores.queue(bench.desk.queue.name).put(found.encode(), message_id=f"{job.id}:again")
    await bench.process(making(b"the second one's"))  # type: ignore[arg-type]
    row = await bench.row(job.id)
    assert row.result is not None
    assert [piece async for piece in bench.inner.blobs.stream(row.result.blob)] == [b"the second one's"]
    assert row.result.sha256 == hashlib.sha256(b"the second one's").hexdigest()
