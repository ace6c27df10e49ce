"""Step 3: download and run under a lease, as long as it holds and nobody drains; leave no scratch."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from rolehost.errors import StoreFullError
from rolehost.jobs.job import Charges, End, Job, JobSpec, JobState
from rolehost.workers.outcome import Outcome
from rolehost.workers.processing import process_message
from rolehost.workers.scratch import Scratch
from support.jobs import CONTENT, Bench, called, open_bench, overtake, succeed, until

Run: TypeAlias = Callable[[JobSpec, Scratch], Awaitable[Outcome]]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench
        assert list(bench.root.iterdir()) == []  # whatever happened, no scratch is left


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Bench]:
    """Leases so short that they run out while a test looks on."""
    async with open_bench(tmp_path, lease=1.2) as bench:
        yield bench
        assert list(bench.root.iterdir()) == []


async def for_ever(_job: JobSpec, _scratch: Scratch) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


async def started(bench: Bench, attempt: Run) -> asyncio.Task[None]:
    """An attempt that has begun to run."""
    running = asyncio.Event()

    async def begun(job: JobSpec, scratch: Scratch) -> Outcome:
        running.set()
        return await attempt(job, scratch)

    task = asyncio.create_task(bench.process(begun))
    await asyncio.wait_for(running.wait(), 5)
    return task


async def test_a_drain_gives_the_job_back_at_once_and_uncharged(bench: Bench) -> None:
    job = await bench.submit()
    task = await started(bench, for_ever)
    bench.desk.interrupt.set()
    await asyncio.wait_for(task, 2)
    row = await bench.row(job.id)
    assert (row.state, row.charges, row.retries_at) == (JobState.QUEUED, Charges(), None)
    assert [attempt.end for attempt in row.attempts] == [End.DRAINED]
    assert await bench.counts() == (1, 0, 0)


async def test_a_drain_while_the_asset_is_downloaded_is_no_different(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.delay("blobs.download", 60)
    task = asyncio.create_task(bench.process(succeed))
    await until(lambda: called(bench, "blobs.download"))
    bench.desk.interrupt.set()
    await asyncio.wait_for(task, 2)
    assert [attempt.end for attempt in (await bench.row(job.id)).attempts] == [End.DRAINED]
    assert await bench.counts() == (1, 0, 0)


async def test_an_upload_that_outlasts_the_drain_is_given_up(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.delay("blobs.put", 60)
    task = asyncio.create_task(bench.process(succeed))
    await until(lambda: called(bench, "blobs.put"))
    bench.desk.interrupt.set()
    await asyncio.wait_for(task, 3)
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.result) == ([End.DRAINED], None)
    assert await bench.counts() == (1, 0, 0)


async def test_what_ends_well_in_the_last_moment_counts(bench: Bench) -> None:
    async def stubborn(job: JobSpec, scratch: Scratch) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await succeed(job, scratch)
        raise AssertionError

    job = await bench.submit()
    task = await started(bench, stubborn)
    bench.desk.interrupt.set()
    await asyncio.wait_for(task, 2)
    assert (await bench.row(job.id)).state is JobState.COMPLETED


@pytest.mark.parametrize("end", [End.OK, End.BAD_INPUT, End.APP_ERROR, End.POISON_NOW, End.DRAINED])
async def test_a_late_worker_publishes_nothing(bench: Bench, end: End) -> None:
    job = await bench.submit()
    rows: list[Job] = []

    async def late(job: JobSpec, scratch: Scratch) -> Outcome:
        rows.append(await overtake(bench, job.id))
        outcome = await succeed(job, scratch)
        return outcome if end is End.OK else Outcome(end=end, detail="late")

    await bench.process(late)
    assert await bench.row(job.id) == rows[0]
    assert bench.told("job.completed") == []
    assert [facts["how"] for facts in bench.told("lease.lost")] == ["late"]


async def test_a_worker_that_lost_its_lease_is_stopped_and_writes_nothing(quick: Bench) -> None:
    job = await quick.submit()
    task = await started(quick, for_ever)
    row = await overtake(quick, job.id)
    writes = quick.faults.calls.count("jobs.write")
    await asyncio.wait_for(task, 1)
    assert await quick.row(job.id) == row
    assert quick.faults.calls.count("jobs.write") - writes <= 1  # the renewal that was refused
    assert [facts["how"] for facts in quick.told("lease.lost")] == ["lost"]


async def test_a_worker_without_a_renewal_stops_itself_and_says_so_uncharged(quick: Bench) -> None:
    job = await quick.submit()
    task = await started(quick, for_ever)
    quick.faults.refuse("jobs.write", times=None)
    await until(lambda: told(quick, "lease.lost"))
    quick.faults.clear()
    await asyncio.wait_for(task, 2)
    row = await quick.row(job.id)
    assert (row.state, row.charges) == (JobState.QUEUED, Charges())
    assert [attempt.end for attempt in row.attempts] == [End.LEASE_LOST]


async def told(bench: Bench, event: str) -> bool:
    return bool(bench.told(event))


@pytest.mark.parametrize("what", ["result", "log"])
async def test_the_lease_is_kept_while_results_and_logs_are_uploaded(quick: Bench, what: str) -> None:
    """Two leases long: nobody may take the job over meanwhile."""
    job = await quick.submit()
    quick.faults.delay("blobs.put", 2.4, at=1 if what == "result" else 2)

    async def wordy(job: JobSpec, scratch: Scratch) -> Outcome:
        return replace(await succeed(job, scratch), stdout="x" * 10_000)

    task = asyncio.create_task(quick.process(wordy))
    await until(lambda: told(quick, "lease.renewed"))
    await asyncio.wait_for(task, 10)
    row = await quick.row(job.id)
    assert (row.state, row.attempt, len(quick.told("lease.renewed")) >= 4) == (JobState.COMPLETED, 1, True)
    assert row.attempts[0].log


async def test_an_upload_ends_with_the_lease(quick: Bench) -> None:
    job = await quick.submit()
    quick.faults.delay("blobs.put", 60)
    task = asyncio.create_task(quick.process(succeed))
    await until(lambda: called(quick, "blobs.put"))
    row = await overtake(quick, job.id)
    await asyncio.wait_for(task, 2)
    assert await quick.row(job.id) == row


async def test_a_lease_that_runs_out_during_an_upload_is_said_to_and_uncharged(quick: Bench) -> None:
    job = await quick.submit()
    quick.faults.delay("blobs.put", 60)
    task = asyncio.create_task(quick.process(succeed))
    await until(lambda: called(quick, "blobs.put"))
    quick.faults.refuse("jobs.write", times=None)
    await until(lambda: told(quick, "lease.lost"))
    quick.faults.clear()
    await asyncio.wait_for(task, 2)
    row = await quick.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.LEASE_LOST], Charges())


@pytest.mark.parametrize("call", ["blobs.download", "blobs.put"])
async def test_a_full_disk_costs_the_job_nothing(bench: Bench, call: str) -> None:
    job = await bench.submit()
    bench.faults.refuse(call, error=StoreFullError)
    await bench.process(succeed)
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.DISK_FULL], Charges())
    await bench.process(succeed)
    assert (await bench.row(job.id)).state is JobState.COMPLETED


async def test_a_scratch_that_is_full_costs_the_job_nothing(bench: Bench) -> None:
    async def full(_job: JobSpec, scratch: Scratch) -> Outcome:
        raise OSError(errno.ENOSPC, "No space left on device", str(scratch.folder))

    job = await bench.submit()
    await bench.process(full)
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.DISK_FULL], Charges())


async def test_a_scratch_that_can_not_be_made_costs_the_job_nothing(bench: Bench) -> None:
    job = await bench.submit()
    await process_message(bench.desk, await bench.receive(), succeed, root=bench.folder / "gone")
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.STORE_ERROR], Charges())


async def test_an_input_that_is_gone_fails_the_job_in_words(bench: Bench) -> None:
    job = await bench.submit()
    await bench.inner.blobs.delete(job.spec.source.blob)
    await bench.process(succeed)
    row = await bench.row(job.id)
    assert (row.state, row.reason) == (JobState.FAILED, "the input is not in the store any more")


async def test_stores_that_fail_are_the_jobs_fault_never(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.refuse("blobs.download")
    await bench.process(succeed)
    bench.faults.refuse("blobs.put", times=6)
    await bench.process(succeed)
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.STORE_ERROR] * 2, Charges())


def nothing(_result: Path) -> None:
    pass


def an_empty_file(result: Path) -> None:
    result.touch()


def a_link(result: Path) -> None:
    result.symlink_to("/etc/passwd")


def a_dangling_link(result: Path) -> None:
    result.symlink_to("nowhere")


def a_folder(result: Path) -> None:
    result.mkdir()


def a_pipe(result: Path) -> None:
    os.mkfifo(result)


def a_locked_file(result: Path) -> None:
    result.write_text("whole")
    result.chmod(0)


def a_locked_folder(result: Path) -> None:
    result.write_text("whole")
    result.parent.chmod(0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (nothing, "left no result"),
        (an_empty_file, "its result is empty"),
        (a_link, "no regular file"),
        (a_dangling_link, "no regular file"),
        (a_folder, "no regular file"),
        (a_pipe, "no regular file"),
    ],
)
async def test_a_result_that_is_none_is_bad_output(bench: Bench, make: Callable[[Path], None], said: str) -> None:
    async def attempt(_job: JobSpec, scratch: Scratch) -> Outcome:
        make(scratch.folder / "result")
        return Outcome(end=End.OK, result=scratch.folder / "result", stdout="done")

    job = await bench.submit()
    await bench.process(attempt)
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.BAD_OUTPUT], Charges(app=1))
    assert said in row.reason
    assert row.attempts[0].stdout == "done"
    assert await bench.blobs("results/") == []


@pytest.mark.parametrize("lock", [a_locked_file, a_locked_folder])
async def test_a_result_that_its_application_locked_is_read_or_bad_output(
    bench: Bench, lock: Callable[[Path], None]
) -> None:
    """Root reads it nevertheless; who can't must neither try for ever nor look like a worker that vanished."""

    async def attempt(_job: JobSpec, scratch: Scratch) -> Outcome:
        lock(scratch.folder / "result")
        readable.append(os.access(scratch.folder / "result", os.R_OK))
        return Outcome(end=End.OK, result=scratch.folder / "result")

    readable: list[bool] = []
    job = await bench.submit()
    await bench.process(attempt)
    row = await bench.row(job.id)
    if readable[0]:
        assert [attempt.end for attempt in row.attempts] == [End.OK]
    else:
        assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.BAD_OUTPUT], Charges(app=1))
        assert "may not be read" in row.reason


async def test_a_worker_that_raises_is_charged_to_the_application_in_words(bench: Bench) -> None:
    """Also what is raised around the console application: it must never look as if the worker had vanished."""

    async def wrong(_job: JobSpec, _scratch: Scratch) -> Outcome:
        raise KeyError("width")

    job = await bench.submit()
    await bench.process(wrong)
    row = await bench.row(job.id)
    assert ([attempt.end for attempt in row.attempts], row.charges) == ([End.APP_ERROR], Charges(app=1))
    assert row.reason == "KeyError: 'width'"


@pytest.mark.parametrize("suffix", [".my ext", ".ü", ".tar;rm -rf ~", "." + "x" * 100, ""])
async def test_a_result_may_have_any_suffix(bench: Bench, suffix: str) -> None:
    async def attempt(_job: JobSpec, scratch: Scratch) -> Outcome:
        result = scratch.folder / f"result{suffix}"
        result.write_text("r")
        return Outcome(end=End.OK, result=result)

    job = await bench.submit()
    await bench.process(attempt)
    row = await bench.row(job.id)
    assert row.result is not None, row.reason
    assert row.result.name == f"result{suffix}"


async def test_the_scratch_directory_goes_when_the_task_is_cancelled(bench: Bench) -> None:
    await bench.submit()
    task = await started(bench, for_ever)
    assert len(list(bench.root.iterdir())) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: empty(bench.root))


async def empty(folder: Path) -> bool:
    return not files(folder)


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_the_scratch_directory_has_the_asset_and_nothing_else_and_is_private(bench: Bench) -> None:
    seen: list[object] = []

    async def look(job: JobSpec, scratch: Scratch) -> Outcome:
        seen.extend([scratch.source.read_bytes(), files(scratch.folder), scratch.folder.stat().st_mode & 0o777])
        return await succeed(job, scratch)

    await bench.submit()
    await bench.process(look)
    assert seen == [CONTENT, ["source"], 0o700]
