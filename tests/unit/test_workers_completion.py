"""Steps 4 to 6: keep the result, write the row once whatever the answers, settle the message."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from rolehost import clock
from rolehost.errors import StoreFullError
from rolehost.jobs.job import CAPS, Charges, End, JobSpec, JobState
from rolehost.jobs.wake_up import WakeUp
from rolehost.workers.outcome import Outcome
from rolehost.workers.processing import process_message
from rolehost.workers.scratch import Scratch
from support.jobs import CONTENT, Bench, called, claimed, ended, open_bench, overtake, succeed, until

Run: TypeAlias = Callable[[JobSpec, Scratch], Awaitable[Outcome]]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench
        assert list(bench.root.iterdir()) == []  # whatever happened, no scratch is left


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Bench]:
    """Leases so short that they run out while a test looks on."""
    async with open_bench(tmp_path, lease=0.6) as bench:
        yield bench
        assert list(bench.root.iterdir()) == []


async def test_a_result_is_published_with_its_size_and_checksum(bench: Bench) -> None:
    job = await bench.submit(name="a.bin")
    await bench.process(succeed)
    done = await bench.row(job.id)
    assert (done.state, [attempt.end for attempt in done.attempts]) == (JobState.COMPLETED, [End.OK])
    assert done.result is not None
    content = CONTENT[::-1]
    assert (done.result.size, done.result.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (done.result.name, done.result.type) == ("a.bin.txt", "text/plain")
    assert done.result.blob.startswith(f"results/{job.id}/1-")
    assert [piece async for piece in bench.inner.blobs.stream(done.result.blob)] == [content]
    assert await bench.counts() == (0, 0, 0)


async def test_a_job_costs_two_row_writes_and_no_reading(bench: Bench) -> None:
    await bench.submit()
    await bench.process(succeed)
    rows = [call for call in bench.faults.calls if call.startswith("jobs.")]
    assert rows == ["jobs.write", "jobs.write"]


async def test_a_result_is_visible_only_through_the_row(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.delay("jobs.write", 0.2, at=2)
    task = asyncio.create_task(bench.process(succeed))
    await until(lambda: any_blob(bench, f"results/{job.id}/"))
    assert (await bench.row(job.id)).result is None
    await task
    assert (await bench.row(job.id)).result is not None


async def any_blob(bench: Bench, prefix: str) -> bool:
    return bool(await bench.blobs(prefix))


ENDS = {
    End.APP_ERROR: (JobState.QUEUED, Charges(app=1)),
    End.TIMEOUT: (JobState.QUEUED, Charges(app=1)),
    End.STALLED: (JobState.QUEUED, Charges(app=1)),
    End.BAD_OUTPUT: (JobState.QUEUED, Charges(app=1)),
    End.OOM: (JobState.QUEUED, Charges(resource=1)),
    End.KILLED: (JobState.QUEUED, Charges(resource=1)),
    End.LEASE_LOST: (JobState.QUEUED, Charges()),
    End.DISK_FULL: (JobState.QUEUED, Charges()),
    End.STORE_ERROR: (JobState.QUEUED, Charges()),
    End.PUT_BACK: (JobState.QUEUED, Charges()),
    End.DRAINED: (JobState.QUEUED, Charges()),
    End.BAD_INPUT: (JobState.FAILED, Charges()),
    End.POISON_NOW: (JobState.POISONED, Charges()),
}


@pytest.mark.parametrize(("end", "expected"), ENDS.items())
async def test_an_end_leads_to_its_state_at_its_price(
    bench: Bench, end: End, expected: tuple[JobState, Charges]
) -> None:
    job = await bench.submit()
    await bench.end_once(end, "as planned", exit_code=3)
    row = await bench.row(job.id)
    assert (row.state, row.charges) == expected
    assert [(attempt.end, attempt.exit_code, attempt.detail) for attempt in row.attempts] == [(end, 3, "as planned")]
    assert "as planned" in row.reason
    visible, hidden, dead = await bench.counts()
    assert ((visible or 0) + (hidden or 0), dead) == (
        int(row.state is JobState.QUEUED),
        int(row.state is JobState.POISONED),
    )


@pytest.mark.parametrize(("end", "budget"), [(End.APP_ERROR, "app"), (End.BAD_OUTPUT, "app"), (End.KILLED, "resource")])
async def test_a_spent_budget_ends_in_the_poison_queue_with_its_reason(bench: Bench, end: End, budget: str) -> None:
    job = await bench.submit()
    for number in range(1, CAPS[budget] + 1):
        assert (await bench.row(job.id)).state is JobState.QUEUED
        await bench.end_once(end, f"failure {number}")
    row = await bench.row(job.id)
    assert (row.state, len(row.attempts)) == (JobState.POISONED, CAPS[budget])
    (dead,) = await bench.inner.queue("work-jobs").peek(9, dead=True)
    assert (dead.reason, dead.description) == (budget, row.reason)
    assert row.reason.endswith(f"at last failure {CAPS[budget]}")
    assert await bench.inner.table("jobs").notes("debt") == []


async def test_interruptions_spend_no_budget(bench: Bench) -> None:
    job = await bench.submit()
    for _ in range(8):
        await bench.end_once(End.DRAINED)
    await bench.process(succeed)
    row = await bench.row(job.id)
    assert (row.state, row.charges, row.attempt) == (JobState.COMPLETED, Charges(), 9)


@pytest.mark.parametrize("end", [End.LEASE_LOST, End.DISK_FULL, End.APP_ERROR])
async def test_uncharged_ends_stop_at_the_deadline(bench: Bench, end: End) -> None:
    job = await bench.submit()
    bench.desk = replace(bench.desk, settings=replace(bench.desk.settings, deadline=0.05))

    async def late(_job: JobSpec, _scratch: Scratch) -> Outcome:
        await asyncio.sleep(0.1)
        return Outcome(end=end, detail="no luck")

    message = await bench.receive()
    await process_message(bench.desk, message, late, root=bench.root)
    row = await bench.row(job.id)
    assert (row.state, row.reason.partition(":")[0]) == (JobState.POISONED, "deadline")


@pytest.mark.parametrize(
    ("before", "end", "least", "most"),
    [
        ([], End.APP_ERROR, 16 * 0.8, 16 * 1.2),
        ([End.APP_ERROR, End.KILLED], End.TIMEOUT, (81 + 15) * 0.8, (81 + 15) * 1.2),
        ([End.APP_ERROR, End.APP_ERROR], End.DISK_FULL, (16 + 15) * 0.8, (16 + 15) * 1.2),
        ([End.APP_ERROR] * 3 + [End.KILLED], End.LEASE_LOST, (256 + 15) * 0.8, (256 + 15) * 1.2),
        ([], End.STORE_ERROR, 15 * 0.8, 15 * 1.2),
    ],
)
async def test_a_retry_waits_as_the_charges_say(
    bench: Bench, before: list[End], end: End, least: float, most: float
) -> None:
    job = await bench.submit()
    for each in before:
        await bench.end_once(each)
    bench.desk = replace(bench.desk, settings=replace(bench.desk.settings, retry_base=15.0, retry_max=3600.0))
    begun = clock.now()
    await bench.end_once(end)
    row = await bench.row(job.id)
    assert row.retries_at is not None
    assert least - 0.1 <= (row.retries_at - begun) / timedelta(seconds=1) <= most + 5
    assert await bench.counts() == (0, 1, 0)


async def test_a_retry_waits_no_longer_than_it_may(bench: Bench) -> None:
    job = await bench.submit()
    bench.desk = replace(bench.desk, settings=replace(bench.desk.settings, retry_base=1e6, retry_max=60.0))
    await bench.end_once(End.APP_ERROR)
    waits = (await bench.row(job.id)).retries_at
    assert waits is not None
    assert waits - clock.now() <= timedelta(seconds=60)


async def test_a_retrys_message_can_be_claimed_without_reading(bench: Bench) -> None:
    job = await bench.submit()
    await bench.end_once(End.KILLED)
    woken = WakeUp.decode((await bench.receive()).body)
    row = await bench.row(job.id)
    assert (woken.version, woken.attempt, woken.charges) == (row.version, 1, Charges(resource=1))
    assert woken.spec == row.spec


async def complete(bench: Bench) -> None:
    await bench.process(succeed)


async def retry(bench: Bench) -> None:
    await bench.end_once(End.APP_ERROR)


async def poison(bench: Bench) -> None:
    await bench.end_once(End.POISON_NOW)


async def fail(bench: Bench) -> None:
    await bench.end_once(End.BAD_INPUT)


@pytest.mark.parametrize(
    ("run", "state", "left"),
    [
        (complete, JobState.COMPLETED, (0, 0)),
        (fail, JobState.FAILED, (0, 0)),
        (poison, JobState.POISONED, (0, 1)),
        (retry, JobState.QUEUED, (1, 0)),
    ],
)
@pytest.mark.parametrize("silent", [False, True], ids=["once", "and the next reading fails"])
async def test_a_lost_answer_on_the_last_write_is_looked_up(
    bench: Bench,
    run: Callable[[Bench], Awaitable[None]],
    state: JobState,
    left: tuple[int, int],
    silent: bool,  # noqa: FBT001
) -> None:
    job = await bench.submit()
    bench.faults.lose_answer("jobs.write", at=2)
    if silent:
        bench.faults.refuse("jobs.read")
    await run(bench)
    row = await bench.row(job.id)
    assert (row.state, row.attempt) == (state, 1)
    visible, hidden, dead = await bench.counts()
    assert ((visible or 0) + (hidden or 0), dead) == left
    assert bench.told("lease.lost") == []


async def test_no_answer_before_the_last_write_is_tried_again(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.refuse("jobs.write", at=2, times=2)
    await bench.process(succeed)
    assert (await bench.row(job.id)).state is JobState.COMPLETED


async def test_a_full_database_does_not_lose_the_result_at_once(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.refuse("jobs.write", at=2, times=2, error=StoreFullError)
    await bench.process(succeed)
    assert (await bench.row(job.id)).state is JobState.COMPLETED


@pytest.mark.parametrize("how", ["complete", "cancel", "run"])
async def test_a_lost_answer_never_makes_a_row_claimable_that_has_moved_on(quick: Bench, how: str) -> None:
    """The attempt's retry was written and its answer lost; before the row is read, others have done more with it."""
    job = await quick.submit()
    quick.faults.lose_answer("jobs.write", at=2)
    quick.faults.delay("jobs.read", 0.3)
    task = asyncio.create_task(quick.end_once(End.APP_ERROR))
    await until(lambda: called(quick, "jobs.read"))
    match how:
        case "complete":
            await overtake(quick, job.id)
        case "cancel":
            await quick.other().jobs.cancel(await quick.row(job.id))
        case _:
            other = await claimed(quick.other(), await quick.row(job.id))
            await quick.other().jobs.retry(other, ended(other.attempt, End.DRAINED), retries_at=None)
    row = await quick.row(job.id)
    await task
    assert await quick.row(job.id) == row
    claims = []

    async def next_run(job: JobSpec, scratch: Scratch) -> Outcome:
        claims.append((await quick.row(job.id)).attempt)
        return await succeed(job, scratch)

    await quick.process(next_run)
    if how == "run":
        assert claims == [3]  # no number is ever used again
    else:
        assert await quick.row(job.id) == row


async def test_an_upload_whose_answer_is_lost_is_not_made_again(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.lose_answer("blobs.put")
    await bench.process(succeed)
    row = await bench.row(job.id)
    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
    assert row.result is not None
    assert row.result.sha256 == hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert await bench.blobs("results/") == [row.result.blob]


async def test_long_output_is_kept_whole_in_a_blob_and_short_in_the_row(bench: Bench) -> None:
    stdout, stderr = "head" + "x" * 20_000 + "tail", "first" + "y" * 5_000 + "last"
    job = await bench.submit()
    await bench.end_once(End.APP_ERROR, stdout=stdout, stderr=stderr)
    (attempt,) = (await bench.row(job.id)).attempts
    assert attempt.stdout.startswith("headx")
    assert attempt.stdout.endswith("xtail")
    assert "characters left out" in attempt.stdout
    assert len(attempt.stdout) < 4200
    assert len(attempt.stderr) < 4200
    kept = b"".join([piece async for piece in bench.inner.blobs.stream(attempt.log)]).decode()
    assert kept == f"--- stdout\n{stdout}\n--- stderr\n{stderr}\n"


async def test_short_output_needs_no_blob(bench: Bench) -> None:
    job = await bench.submit()
    await bench.end_once(End.APP_ERROR, stdout="o" * 4096, stderr="e")
    (attempt,) = (await bench.row(job.id)).attempts
    assert (attempt.stdout, attempt.stderr, attempt.log) == ("o" * 4096, "e", "")
    assert await bench.blobs("logs/") == []


async def test_output_that_no_text_field_takes_is_kept_all_the_same(bench: Bench) -> None:
    job = await bench.submit()
    await bench.end_once(End.APP_ERROR, "half \ud800", stdout="\x00\x1b[31m" * 2000, stderr="\udcff\r\n\t|")
    (attempt,) = (await bench.row(job.id)).attempts
    assert attempt.end is End.APP_ERROR
    assert attempt.stderr == "?\r\n\t|"
    assert "\x00" not in attempt.stdout


async def test_a_log_that_can_not_be_kept_loses_no_attempt(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.refuse("blobs.put")
    await bench.end_once(End.APP_ERROR, stdout="x" * 10_000)
    (attempt,) = (await bench.row(job.id)).attempts
    assert (attempt.end, attempt.log) == (End.APP_ERROR, "")
    assert attempt.stdout
