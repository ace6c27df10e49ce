"""Step 2: from a message to a claim, or to the message's settlement. The row decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.errors import StoreUnavailableError
from rolehost.jobs.job import Charges, End, Job, JobState
from rolehost.jobs.table import DEBT, Claim
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import QueueMessage
from rolehost.workers.claiming import KEPT, begin
from support.jobs import Bench, claimed, ended, open_bench, succeed, until

LEASE = 0.5


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, lease=LEASE) as bench:
        yield bench


async def start(bench: Bench) -> Claim | None:
    return await begin(bench.desk, await bench.receive())


async def wake(bench: Bench, job: Job, seen: str | None = None) -> None:
    """Another message for the job, as recovery sends it."""
    await bench.inner.queue("work-jobs").put(WakeUp(job=job.id, seen=seen).encode(), message_id=f"{job.id}:x")


async def put_aside(bench: Bench) -> None:
    """Settle the message that is there, so that only the test's own are left."""
    await bench.inner.queue("work-jobs").complete(await bench.receive())


async def test_the_first_claim_reads_no_row(bench: Bench) -> None:
    job = await bench.submit()
    claim = await start(bench)
    assert claim is not None
    assert bench.reads() == 0
    assert bench.faults.calls == ["jobs.write"]
    row = await bench.row(job.id)
    assert (row.state, row.token, row.attempt, row.attempts[0].instance) == (
        JobState.RUNNING,
        claim.token,
        1,
        "Worker_IN_0",
    )
    assert claim.spec.source == job.spec.source


async def test_a_retry_reads_no_row_either_and_carries_its_charges(bench: Bench) -> None:
    await bench.submit()
    await bench.end_once(End.APP_ERROR)
    bench.faults.calls.clear()
    claim = await start(bench)
    assert claim is not None
    assert (bench.reads(), claim.attempt.number, claim.charges) == (0, 2, Charges(app=1))


async def test_a_refused_claim_reads_the_row(bench: Bench) -> None:
    """The message's version is old: the job went back to the queue since."""
    job = await bench.submit()
    first = await claimed(bench.other(), job)
    await bench.other().jobs.retry(first, ended(first.attempt, End.APP_ERROR), retries_at=None)
    claim = await start(bench)
    assert claim is not None
    assert (bench.reads(), claim.attempt.number, claim.charges) == (1, 2, Charges(app=1))


async def test_a_message_without_a_version_reads_the_row(bench: Bench) -> None:
    job = await bench.submit()
    await put_aside(bench)
    await wake(bench, job)
    claim = await start(bench)
    assert claim is not None
    assert (bench.reads(), claim.attempt.number) == (1, 1)
    assert claim.spec == (await bench.row(job.id)).spec


async def test_a_live_lease_hides_the_message_for_one_lease_with_what_was_seen(bench: Bench) -> None:
    job = await bench.submit()
    held = await claimed(bench.other(), job)
    assert await start(bench) is None
    assert await bench.counts() == (0, 1, 0)
    assert (await bench.row(job.id)).version == held.version
    hidden = clock.monotonic()
    woken = WakeUp.decode((await bench.receive()).body)
    assert clock.monotonic() - hidden > LEASE * 0.8
    assert (woken.seen, woken.version) == (held.version, None)


async def test_a_longer_lease_of_another_worker_is_respected_in_its_own_length(bench: Bench) -> None:
    job = await bench.submit()
    await claimed(bench.other(lease=LEASE * 3), job)
    assert await start(bench) is None
    hidden = clock.monotonic()
    await bench.receive()
    assert clock.monotonic() - hidden > LEASE * 2


async def test_a_lease_that_is_renewed_is_never_dead(bench: Bench) -> None:
    held = await claimed(bench.other(), await bench.submit())
    for _ in range(3):
        assert await start(bench) is None
        held = await bench.other().jobs.renew(held, lease=LEASE)
    assert [attempt.end for attempt in (await bench.row(held.spec.id)).attempts] == [None]


async def test_a_dead_lease_is_recorded_by_the_claimer_and_charged(bench: Bench) -> None:
    job = await bench.submit()
    await claimed(bench.other(), job)
    assert await start(bench) is None
    claim = await start(bench)
    assert claim is not None
    assert (claim.attempt.number, claim.charges) == (2, Charges(lost=1))
    row = await bench.row(job.id)
    assert [(attempt.end, attempt.instance) for attempt in row.attempts] == [
        (End.WORKER_LOST, "Other_IN_0"),
        (None, "Worker_IN_0"),
    ]
    assert row.charges == Charges(lost=1)


async def test_wall_clocks_decide_nothing_about_a_lease(bench: Bench) -> None:
    """The row says that its lease ended an hour ago, by a clock that is an hour slow: it lives all the same."""
    job = await bench.submit()
    held = await claimed(bench.other(), job, lease=-3600.0)
    assert await start(bench) is None
    assert (await bench.row(job.id)).version == held.version


async def lost(bench: Bench, job: Job, times: int) -> None:
    """So many workers vanished in this job, the last one just now."""
    await put_aside(bench)
    for _ in range(times):
        row = await bench.row(job.id)
        gone = replace(row.attempts[-1], ended_at=clock.now(), end=End.WORKER_LOST) if row.attempts else None
        await claimed(bench.other(), row, lost=gone)
    await wake(bench, job, seen=(await bench.row(job.id)).version)


@pytest.mark.parametrize(("times", "state"), [(2, JobState.RUNNING), (3, JobState.POISONED)])
async def test_the_third_lost_worker_poisons_the_job(bench: Bench, times: int, state: JobState) -> None:
    job = await bench.submit()
    await lost(bench, job, times)
    claim = await start(bench)
    row = await bench.row(job.id)
    assert (row.state, row.charges, claim is None) == (state, Charges(lost=times), state is JobState.POISONED)
    assert all(attempt.end for attempt in row.attempts[:times])


async def test_a_spent_budget_is_dead_lettered_with_its_reason_and_then_owes_nothing(bench: Bench) -> None:
    job = await bench.submit()
    await lost(bench, job, 3)
    assert await start(bench) is None
    (dead,) = await bench.inner.queue("work-jobs").peek(9, dead=True)
    assert dead.reason == "lost"
    assert dead.description.startswith("lost: the worker vanished 3 times while it ran this job; at last the worker")
    assert (await bench.row(job.id)).reason == dead.description
    assert await bench.inner.table("jobs").notes(DEBT) == []
    assert bench.faults.calls[-2:] == ["queue.dead_letter", "jobs.drop_note"]


async def test_a_dead_letter_that_was_not_made_stays_owed(bench: Bench) -> None:
    job = await bench.submit()
    await lost(bench, job, 3)
    bench.faults.refuse("queue.dead_letter")
    assert await start(bench) is None
    assert [note.key for note in await bench.inner.table("jobs").notes(DEBT)] == [job.id]
    assert await start(bench) is None  # the message comes back
    assert await bench.inner.table("jobs").notes(DEBT) == []
    assert await bench.counts() == (0, 0, 1)


async def in_state(bench: Bench, state: JobState) -> Job:
    job = await bench.submit()
    claim = await claimed(bench.other(), job)
    jobs = bench.other().jobs
    match state:
        case JobState.POISONED:
            await jobs.poison(
                job.id, claim.version, ended(claim.attempt, End.POISON_NOW, "why"), reason="poison_now: why"
            )
        case JobState.CANCELLED:
            await jobs.cancel(await bench.row(job.id))
        case _:
            await jobs.fail(claim, ended(claim.attempt, End.BAD_INPUT), reason="bad")
    return await bench.row(job.id)


@pytest.mark.parametrize(
    ("state", "left"),
    [(JobState.POISONED, (0, 0, 1)), (JobState.CANCELLED, (0, 0, 0)), (JobState.FAILED, (0, 0, 0))],
)
async def test_the_message_of_a_job_that_is_over_is_settled(
    bench: Bench, state: JobState, left: tuple[int, int, int]
) -> None:
    job = await in_state(bench, state)
    assert await start(bench) is None
    assert await bench.counts() == left
    assert await bench.row(job.id) == job


async def test_a_message_whose_row_is_gone_is_set_aside_as_an_orphan(bench: Bench) -> None:
    job = await bench.submit()
    await bench.inner.table("jobs").delete(job.id, job.version)
    assert await start(bench) is None
    assert await bench.counts() == (0, 0, 1)


@pytest.mark.parametrize("body", ["hello", "[" * 10_000, "{}", '{"rolehost":2}', "\x00" * 60_000])
async def test_a_malformed_message_is_dead_lettered(bench: Bench, body: str) -> None:
    await bench.inner.queue("work-jobs").put(body, message_id="m")
    assert await start(bench) is None
    (dead,) = await bench.inner.queue("work-jobs").peek(9, dead=True)
    assert (dead.reason, dead.body) == ("malformed", body)
    assert 0 < len(dead.description) <= 2000


@pytest.mark.parametrize("age", [timedelta(days=7, seconds=5), timedelta(days=400)])
async def test_a_job_past_its_deadline_is_poisoned(bench: Bench, age: timedelta) -> None:
    job = await bench.old_job(age)
    assert await start(bench) is None
    row = await bench.row(job.id)
    assert (row.state, row.attempts) == (JobState.POISONED, ())
    assert row.reason.startswith("deadline: ")
    assert await bench.counts() == (0, 0, 1)


async def test_a_job_before_its_deadline_is_not(bench: Bench) -> None:
    await bench.old_job(timedelta(days=6, hours=23))
    assert await start(bench) is not None


async def test_a_message_does_not_outwit_the_deadline(bench: Bench) -> None:
    """The spec in the message is as old as the row: the quick way, too, sees that it is too late."""
    job = await bench.old_job(timedelta(days=8))
    await put_aside(bench)
    told = WakeUp(job=job.id, spec=job.spec, version=job.version)
    await bench.inner.queue("work-jobs").put(told.encode(), message_id="m")
    assert await start(bench) is None
    assert (await bench.row(job.id)).state is JobState.POISONED


@pytest.mark.parametrize("told", [True, False], ids=["as told", "as read"])
async def test_a_claim_whose_answer_is_lost_is_known_by_its_token(bench: Bench, told: bool) -> None:  # noqa: FBT001
    job = await bench.submit()
    if not told:
        await put_aside(bench)
        await wake(bench, job)
    before = clock.monotonic()
    bench.faults.lose_answer("jobs.write")
    claim = await start(bench)
    assert claim is not None
    row = await bench.row(job.id)
    assert (claim.token, claim.version, claim.attempt) == (row.token, row.version, row.attempts[0])
    assert (row.attempt, row.charges) == (1, Charges())
    assert before <= claim.sent <= clock.monotonic()


async def test_a_lost_answer_after_a_wall_clock_step_trusts_no_longer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.submit()
    message = await bench.receive()
    bench.faults.lose_answer("jobs.write")
    real, steps = clock.now, iter([timedelta(0), timedelta(0)])
    monkeypatch.setattr(clock, "now", lambda: real() - next(steps, timedelta(hours=1)))
    before = clock.monotonic()
    claim = await begin(bench.desk, message)
    assert claim is not None
    assert before <= claim.sent <= clock.monotonic()


async def test_a_refused_and_then_lost_claim_is_known_too(bench: Bench) -> None:
    job = await bench.submit()
    first = await claimed(bench.other(), job)
    await bench.other().jobs.retry(first, ended(first.attempt, End.DRAINED), retries_at=None)
    bench.faults.lose_answer("jobs.write", at=2)
    claim = await start(bench)
    assert claim is not None
    assert (claim.attempt.number, (await bench.row(job.id)).token) == (2, claim.token)


async def test_stores_that_do_not_answer_leave_the_message_as_it_was(bench: Bench) -> None:
    await bench.submit()
    bench.faults.refuse("jobs.*", times=None)
    with pytest.raises(StoreUnavailableError):
        await start(bench)
    bench.faults.clear()
    claim = await start(bench)  # after a lease
    assert claim is not None
    assert claim.charges == Charges()


async def test_one_message_delivered_to_many_makes_one_claim(bench: Bench) -> None:
    await bench.submit()
    message: QueueMessage = await bench.receive()
    claims = [await begin(bench.desk, message) for _ in range(8)]
    assert sum(claim is not None for claim in claims) == 1
    await until(lambda: settled(bench))


async def settled(bench: Bench) -> bool:
    visible, hidden, dead = await bench.counts()
    return (hidden or 0) + (visible or 0) == 1 and dead == 0


async def test_what_costs_nothing_is_forgotten_in_the_end_and_what_was_charged_is_not(bench: Bench) -> None:
    """A job may be interrupted any number of times, and its row has a limit."""
    job = await bench.submit()
    await put_aside(bench)
    jobs = bench.other().jobs
    row = job
    for end in [End.APP_ERROR, *([End.DISK_FULL] * 3 * KEPT)]:
        claim = await claimed(bench.other(), row)
        await jobs.retry(claim, ended(claim.attempt, end), retries_at=None)
        row = await bench.row(job.id)
    told = WakeUp(job=row.id, spec=row.spec, version=row.version, attempt=row.attempt, charges=row.charges)
    await bench.inner.queue("work-jobs").put(told.encode(), message_id="m")
    claim_now = await start(bench)
    assert claim_now is not None
    assert (claim_now.attempt.number, claim_now.charges) == (3 * KEPT + 2, Charges(app=1))
    attempts = (await bench.row(job.id)).attempts
    assert [attempt.end for attempt in attempts] == [End.APP_ERROR, *([End.DISK_FULL] * KEPT), None]
    assert [attempt.number for attempt in attempts[-2:]] == [3 * KEPT + 1, 3 * KEPT + 2]


async def test_a_job_that_is_interrupted_for_ever_still_fits_its_row(bench: Bench) -> None:
    """More interruptions than a row has room for, each with all the output that a row keeps; it completes at last."""
    job = await bench.submit()
    for _ in range(30):
        await bench.end_once(End.DISK_FULL, "no space is left", stdout="\x07" * 4000, stderr="é" * 4000)
    await bench.process(succeed)
    assert (await bench.row(job.id)).state is JobState.COMPLETED
