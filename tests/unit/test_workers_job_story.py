"""A job from end to end as the original's job runner had it: download, run, upload, completed; and its constraints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rolehost.environment import RoleEnvironment
from rolehost.jobs.job import End, JobState
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker
from support.jobs import CONTENT, KIND, Bench, open_bench, until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


def shell(bench: Bench, script: str, **more: Any) -> ConsoleAppWorker:
    """A worker whose application is a script with the arguments SOURCE and TARGET."""
    path = bench.folder / "application"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)

    class Worker(ConsoleAppWorker):
        kind = KIND
        app = ConsoleApp((str(path), "{source}", "{target}"), **more)

    made = Worker()
    made.role_environment = RoleEnvironment.for_testing()
    made._settings = bench.desk.settings
    return made


async def test_a_job_runs_is_completed_and_leaves_no_file(bench: Bench) -> None:
    gate = bench.folder / "gate"
    job = await bench.submit()
    assert job.state is JobState.QUEUED
    script = f'touch {gate}.open; while [ ! -e {gate} ]; do sleep 0.02; done; cp "$1" "$2"'
    working = asyncio.create_task(bench.process(shell(bench, script).attempt))
    await until(lambda: _exists(Path(f"{gate}.open")))
    assert (await bench.row(job.id)).state is JobState.RUNNING
    (scratch,) = bench.root.iterdir()
    assert (scratch / "source").read_bytes() == CONTENT
    gate.touch()
    await working
    done = await bench.row(job.id)
    assert done.state is JobState.COMPLETED
    assert done.result is not None
    assert b"".join([piece async for piece in bench.inner.blobs.stream(done.result.blob)]) == CONTENT
    assert list(bench.root.iterdir()) == []


async def _exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 - a test's own file


async def test_an_application_that_fails_publishes_nothing_and_leaves_no_file(bench: Bench) -> None:
    job = await bench.submit()
    await bench.process(shell(bench, 'cp "$1" "$2"; echo "cannot open" >&2; exit 3').attempt)
    row = await bench.row(job.id)
    (attempt,) = row.attempts
    assert (row.result, attempt.end, attempt.exit_code) == (None, End.APP_ERROR, 3)
    assert attempt.stderr == "cannot open\n"
    assert await bench.blobs("results/") == []
    assert list(bench.root.iterdir()) == []


async def test_success_needs_exit_code_0_and_a_limit_of_time_is_no_exit(bench: Bench) -> None:
    job = await bench.submit()
    await bench.process(shell(bench, 'cp "$1" "$2"; exit 3').attempt)
    await bench.process(shell(bench, 'cp "$1" "$2"; exec sleep 60', timeout=0.3).attempt)
    await bench.process(shell(bench, 'cp "$1" "$2"').attempt)
    row = await bench.row(job.id)
    assert [(each.end, each.end and each.end.charged_to) for each in row.attempts] == [
        (End.APP_ERROR, "app"),
        (End.TIMEOUT, "app"),
        (End.OK, None),
    ]
    assert (row.state, row.attempts[2].exit_code) == (JobState.COMPLETED, 0)


async def test_an_application_is_tried_so_often_and_no_more(bench: Bench) -> None:
    job = await bench.submit()
    for _ in range(5):
        assert (await bench.row(job.id)).state is JobState.QUEUED
        await bench.process(shell(bench, "exit 3").attempt)
    row = await bench.row(job.id)
    assert (row.state, len(row.attempts), row.charges.app) == (JobState.POISONED, 5, 5)
    assert await bench.counts() == (0, 0, 1)
