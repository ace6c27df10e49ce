"""The jobs table: every transition is conditional, and a row in a terminal state never changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest

from rolehost import clock
from rolehost.errors import VersionMismatchError
from rolehost.jobs.job import Charges, End, Job, JobState, Result
from rolehost.jobs.table import DEBT, Claim, JobTable
from support.jobs import Bench, claimed, ended, open_bench

RESULT = Result(name="r", size=1, sha256="00", type="text/plain", blob="results/x/1-t/result")
Arrow: TypeAlias = Callable[[JobTable, Claim], Awaitable[object]]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


async def cancel(jobs: JobTable, claim: Claim) -> object:
    job = await jobs.read(claim.spec.id)
    assert job is not None
    return await jobs.cancel(replace(job, version=claim.version), reason="a person asked")


FROM_RUNNING: dict[str, tuple[Arrow, JobState, End | None]] = {
    "renew": (lambda jobs, claim: jobs.renew(claim, lease=1), JobState.RUNNING, None),
    "complete": (
        lambda jobs, claim: jobs.complete(claim, ended(claim.attempt, End.OK), RESULT),
        JobState.COMPLETED,
        End.OK,
    ),
    "retry": (
        lambda jobs, claim: jobs.retry(claim, ended(claim.attempt, End.APP_ERROR, "d"), retries_at=clock.now()),
        JobState.QUEUED,
        End.APP_ERROR,
    ),
    "fail": (
        lambda jobs, claim: jobs.fail(claim, ended(claim.attempt, End.BAD_INPUT), reason="r"),
        JobState.FAILED,
        End.BAD_INPUT,
    ),
    "poison": (
        lambda jobs, claim: jobs.poison(
            claim.spec.id, claim.version, ended(claim.attempt, End.TIMEOUT), reason="app: r"
        ),
        JobState.POISONED,
        End.TIMEOUT,
    ),
    "cancel": (cancel, JobState.CANCELLED, End.CANCELLED),
}
each_arrow = pytest.mark.parametrize(("arrow", "state", "end"), FROM_RUNNING.values(), ids=FROM_RUNNING.keys())


async def running(bench: Bench) -> Claim:
    return await claimed(bench.desk, await bench.submit())


async def test_a_claim_opens_an_attempt_under_a_token(bench: Bench) -> None:
    before = clock.monotonic()
    claim = await running(bench)
    job = await bench.row(claim.spec.id)
    assert (job.state, job.attempt, job.token, job.version) == (JobState.RUNNING, 1, claim.token, claim.version)
    assert [(attempt.number, attempt.end, attempt.instance) for attempt in job.attempts] == [(1, None, "Worker_IN_0")]
    assert job.started_at is not None
    assert before <= claim.sent <= clock.monotonic()


@each_arrow
async def test_an_arrow_leads_where_the_diagram_says(
    bench: Bench, arrow: Arrow, state: JobState, end: End | None
) -> None:
    claim = await running(bench)
    await arrow(bench.desk.jobs, claim)
    job = await bench.row(claim.spec.id)
    assert (job.state, job.attempts[-1].end) == (state, end)
    assert (job.token == "") == (state is not JobState.RUNNING)
    assert (job.finished_at is not None) == state.terminal
    assert (job.result == RESULT) == (state is JobState.COMPLETED)


@each_arrow
async def test_of_two_writers_one_wins(bench: Bench, arrow: Arrow, state: JobState, end: End | None) -> None:
    """Sixteen at once, all under the version that they read: one write, fifteen refusals."""
    del state, end
    claim = await running(bench)
    answers = await asyncio.gather(*(arrow(bench.desk.jobs, claim) for _ in range(16)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, VersionMismatchError)]
    assert len(refused) == 15


@each_arrow
async def test_a_late_writer_changes_nothing(bench: Bench, arrow: Arrow, state: JobState, end: End | None) -> None:
    """The row is running again, under another's token: the old claim is worth nothing."""
    del state, end
    late = await running(bench)
    await bench.desk.jobs.retry(late, ended(late.attempt, End.LEASE_LOST), retries_at=None)
    await claimed(bench.other(), await bench.row(late.spec.id))
    before = await bench.row(late.spec.id)
    with pytest.raises(VersionMismatchError):
        await arrow(bench.desk.jobs, late)
    assert await bench.row(late.spec.id) == before


@each_arrow
@pytest.mark.parametrize("terminal", ["complete", "fail", "poison", "cancel"])
async def test_a_terminal_row_never_changes(
    bench: Bench, arrow: Arrow, state: JobState, end: End | None, terminal: str
) -> None:
    del state, end
    claim = await running(bench)
    await FROM_RUNNING[terminal][0](bench.desk.jobs, claim)
    before = await bench.row(claim.spec.id)
    with pytest.raises(VersionMismatchError):
        await arrow(bench.desk.jobs, claim)
    assert await bench.row(claim.spec.id) == before


async def test_a_job_that_is_over_is_not_cancelled_even_by_who_read_it(bench: Bench) -> None:
    claim = await running(bench)
    await bench.desk.jobs.complete(claim, ended(claim.attempt, End.OK), RESULT)
    done = await bench.row(claim.spec.id)
    with pytest.raises(VersionMismatchError):
        await bench.desk.jobs.cancel(done)
    assert await bench.row(claim.spec.id) == done


async def test_a_queued_job_is_cancelled_without_an_attempt(bench: Bench) -> None:
    job = await bench.submit()
    await bench.desk.jobs.cancel(job, reason="no longer needed")
    job = await bench.row(job.id)
    assert (job.state, job.reason, job.attempts) == (JobState.CANCELLED, "no longer needed", ())


async def test_sixteen_claims_of_one_version_open_one_attempt(bench: Bench) -> None:
    job = await bench.submit()
    answers = await asyncio.gather(*(claimed(bench.desk, job) for _ in range(16)), return_exceptions=True)
    (won,) = [answer for answer in answers if isinstance(answer, Claim)]
    assert (await bench.row(job.id)).token == won.token


async def test_a_claim_records_the_end_of_the_attempt_before_it(bench: Bench) -> None:
    first = await running(bench)
    job = await bench.row(first.spec.id)
    lost = ended(job.attempts[-1], End.WORKER_LOST)
    await claimed(bench.desk, job, lost=lost, charges=Charges(lost=1))
    job = await bench.row(first.spec.id)
    assert [attempt.end for attempt in job.attempts] == [End.WORKER_LOST, None]
    assert (job.attempt, job.charges) == (2, Charges(lost=1))


async def test_a_claim_clears_what_the_wait_before_it_said(bench: Bench) -> None:
    first = await running(bench)
    await bench.desk.jobs.retry(first, ended(first.attempt, End.APP_ERROR, "it broke"), retries_at=clock.now())
    waiting = await bench.row(first.spec.id)
    assert (waiting.reason, waiting.retries_at is not None) == ("it broke", True)
    await claimed(bench.desk, waiting)
    again = await bench.row(first.spec.id)
    assert (again.reason, again.retries_at, again.started_at) == ("", None, waiting.started_at)


async def test_poisoning_leaves_a_debt_in_the_same_write(bench: Bench) -> None:
    claim = await running(bench)
    with pytest.raises(VersionMismatchError):
        await bench.desk.jobs.poison(claim.spec.id, "1", None, reason="app: r")
    assert await bench.inner.table("jobs").notes(DEBT) == []
    await bench.desk.jobs.poison(claim.spec.id, claim.version, ended(claim.attempt, End.TIMEOUT), reason="app: r")
    (debt,) = await bench.inner.table("jobs").notes(DEBT)
    assert debt.key == claim.spec.id


async def test_jobs_are_listed_newest_first_and_counted_by_state(bench: Bench) -> None:
    made = [await bench.submit() for _ in range(5)]
    await claimed(bench.desk, made[2])
    pages: list[Job] = []
    cursor = None
    while True:
        page = await bench.desk.jobs.list(limit=2, cursor=cursor)
        pages += page.jobs
        cursor = page.cursor
        if cursor is None:
            break
    assert [job.id for job in pages] == [job.id for job in reversed(made)]
    assert [job.id for job in (await bench.desk.jobs.list(state=JobState.RUNNING)).jobs] == [made[2].id]
    counted = await bench.desk.jobs.counts()
    assert counted == {state.value: {"queued": 4, "running": 1}.get(state.value, 0) for state in JobState}
