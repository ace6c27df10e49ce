"""What a user's `process` returns or raises, as its attempt's end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.errors import BadInputError
from rolehost.jobs.job import Charges, End, Job, JobSpec, JobState
from rolehost.workers.outcome import Outcome
from rolehost.workers.queue_worker import QueueWorker
from rolehost.workers.scratch import Scratch
from support.jobs import KIND, Bench, open_bench, overtake


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


class Moody(QueueWorker):
    """Does what the job says."""

    kind = KIND

    def process(self, job: JobSpec, scratch: Scratch) -> Path | Outcome | Awaitable[Path | Outcome]:
        match job.parameters["mood"]:
            case "raise":
                raise ValueError("the moon is full")
            case "refuse":
                raise BadInputError("it is not a fish")
            case "exit":
                raise SystemExit(3)
            case "stop":
                raise StopIteration
            case "cancel":
                raise asyncio.CancelledError
            case "full":
                raise OSError(28, os.strerror(28))
            case "missing":
                raise FileNotFoundError(2, "No such file", "model.bin")
            case "none":
                return None  # type: ignore[return-value]
            case "elsewhere":
                return scratch.folder / "not-there"
        return Outcome(end=End.PUT_BACK, detail="not now")


@pytest.mark.parametrize(
    ("mood", "end", "state", "charged", "said"),
    [
        ("raise", End.APP_ERROR, JobState.QUEUED, 1, "ValueError: the moon is full"),
        ("refuse", End.BAD_INPUT, JobState.FAILED, 0, "it is not a fish"),
        ("exit", End.APP_ERROR, JobState.QUEUED, 1, "SystemExit(3)"),
        ("stop", End.APP_ERROR, JobState.QUEUED, 1, "StopIteration()"),
        ("cancel", End.APP_ERROR, JobState.QUEUED, 1, "CancelledError()"),
        ("full", End.DISK_FULL, JobState.QUEUED, 0, "No space left on device"),
        ("missing", End.APP_ERROR, JobState.QUEUED, 1, "model.bin"),
        ("none", End.APP_ERROR, JobState.QUEUED, 1, "Moody.process() returns the path of its result, not None"),
        ("elsewhere", End.BAD_OUTPUT, JobState.QUEUED, 1, "left no result"),
        ("", End.PUT_BACK, JobState.QUEUED, 0, "not now"),
    ],
)
async def test_what_user_code_does_is_its_attempts_end(  # noqa: PLR0917 - one line of the table each
    bench: Bench, mood: str, end: End, state: JobState, charged: int, said: str
) -> None:
    job: Job = await bench.submit(given={"mood": mood})
    await bench.process(Moody().attempt)
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.state) == ([end], state)
    assert row.charges == Charges(app=charged)
    assert said in row.reason


class Deaf(QueueWorker):
    """A plain function that nobody can interrupt."""

    kind = KIND

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def process(self, job: JobSpec, scratch: Scratch) -> Path:
        del job
        self.begun.set()
        self.released.wait(30)
        return scratch.source


async def test_a_plain_function_that_outlives_its_lease_costs_a_recycle(bench: Bench) -> None:
    recycled: list[bool] = []
    worker = Deaf()
    worker.role_environment = RoleEnvironment.for_testing(on_recycle=lambda: recycled.append(True))
    worker._settings = bench.desk.settings
    job = await bench.submit()
    working = asyncio.create_task(bench.process(worker.attempt))
    assert await asyncio.to_thread(worker.begun.wait, 10)
    row = await overtake(bench, job.id)
    try:
        await working
    finally:
        worker.released.set()
    assert recycled == [True]
    assert await bench.row(job.id) == row
