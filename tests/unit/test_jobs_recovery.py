"""Recovery: whatever a crash leaves behind is woken, set aside or collected, and nothing that lives is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from rolehost import clock
from rolehost.errors import AlreadyExistsError
from rolehost.jobs.codec import spec_to_fields
from rolehost.jobs.job import End, Job, JobState
from rolehost.jobs.recovery import LONG_PAST_DUE, Recovery
from rolehost.jobs.retention import RetentionRules
from rolehost.jobs.sweeper import KEY, Sweeper
from rolehost.jobs.table import DEBT, TABLE
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Note
from rolehost.workers.claiming import begin
from rolehost.workers.lease import LeaseKeeper
from support.engines import EMBEDDED, Engine, every_engine
from support.jobs import Bench, a_spec, called, claimed, ended, open_bench, succeed, until
from support.stores import receive

pytestmark = every_engine
LEASE = 2.0


@pytest_asyncio.fixture
async def bench(tmp_path: Path, engine: Engine) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, engine=engine) as made:
        yield made


class Time:
    """Both clocks, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        monotonic, now = clock.monotonic, clock.now
        monkeypatch.setattr(clock, "monotonic", lambda: monotonic() + self.ahead)
        monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=self.ahead))


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def a_sweeper(bench: Bench, **rules: timedelta | None) -> Recovery:
    return Recovery(bench.stores, lease=LEASE, rules=RetentionRules(**rules) if rules else None)


async def row_without_message(bench: Bench, *notes: str) -> Job:
    spec = a_spec()
    await bench.inner.blobs.put(spec.source.blob, b"an asset")
    await bench.inner.table(TABLE).insert(spec.id, spec_to_fields(spec), tag=JobState.QUEUED, notes=notes)
    return await bench.row(spec.id)


async def test_a_row_whose_message_was_never_put_runs(bench: Bench) -> None:
    job = await row_without_message(bench, "outbox")
    sweeper = a_sweeper(bench)
    await sweeper.sweep()
    assert await bench.counts() == (0, 0, 0), "its writer may be about to put it"
    await sweeper.sweep()
    await bench.process(succeed)
    assert (await bench.row(job.id)).state is JobState.COMPLETED
    assert not await bench.inner.table(TABLE).notes("outbox")


async def test_an_outbox_entity_of_a_job_that_is_over_just_goes(bench: Bench) -> None:
    job = await row_without_message(bench, "outbox")
    await bench.desk.jobs.cancel(job)
    sweeper = a_sweeper(bench)
    await sweeper.sweep()
    await sweeper.sweep()
    assert await bench.counts() == (0, 0, 0)
    assert not await bench.inner.table(TABLE).notes("outbox")


async def test_a_poisoned_job_whose_dead_letter_was_never_made_gets_it(bench: Bench) -> None:
    job = await row_without_message(bench)
    await bench.desk.jobs.poison(job.id, job.version, None, reason="app: it failed")
    sweeper = a_sweeper(bench)
    for _ in range(4):
        await sweeper.sweep()
    assert (await bench.counts())[0] == 1, "one wake-up, however many passes"
    await bench.process(succeed)
    assert await bench.counts() == (0, 0, 1)
    (letter,) = await bench.inner.queue(bench.desk.queue.name).peek(10, dead=True)
    assert (letter.reason, WakeUp.decode(letter.body).job) == ("app", job.id)
    assert Note(DEBT, job.id) not in await bench.inner.table(TABLE).notes(DEBT)


async def test_a_debt_whose_wake_up_could_not_be_put_is_tried_in_the_next_pass(bench: Bench) -> None:
    job = await row_without_message(bench)
    await bench.desk.jobs.poison(job.id, job.version, None, reason="app: it failed")
    sweeper = a_sweeper(bench)
    await sweeper.sweep()
    bench.faults.refuse("queue.put")
    await sweeper.sweep()
    assert await bench.counts() == (0, 0, 0)
    await sweeper.sweep()
    assert (await bench.counts())[0] == 1


async def test_a_debt_that_could_not_be_dropped_is_paid_again_later(bench: Bench, time: Time) -> None:
    job = await row_without_message(bench)
    await bench.desk.jobs.poison(job.id, job.version, None, reason="app: it failed")
    sweeper = a_sweeper(bench)
    await sweeper.sweep()
    await sweeper.sweep()
    bench.faults.refuse("jobs.drop_note")
    await bench.process(succeed)
    table = bench.inner.table(TABLE)
    assert await table.notes(DEBT) == [Note(DEBT, job.id)]
    time.ahead += LONG_PAST_DUE + 1
    await sweeper.sweep()
    await bench.process(succeed)
    assert await table.notes(DEBT) == []


async def test_a_lease_that_stands_still_is_woken_once_and_taken_over(bench: Bench, time: Time) -> None:
    job = await row_without_message(bench)
    await claimed(bench.other(), job, lease=30 * LEASE)  # the sweeps themselves take some of it
    sweeper = a_sweeper(bench)
    await sweeper.sweep()
    time.ahead += 15 * LEASE
    await sweeper.sweep()
    assert await bench.counts() == (0, 0, 0), "it may live"
    time.ahead += 15 * LEASE
    await sweeper.sweep()
    await sweeper.sweep()
    assert (await bench.counts())[0] == 1
    await bench.process(succeed)
    done = await bench.row(job.id)
    assert done.state is JobState.COMPLETED
    assert [attempt.end for attempt in done.attempts] == [End.WORKER_LOST, End.OK]


async def test_without_any_sweeper_a_marked_message_brings_its_job_back_after_one_lease(bench: Bench) -> None:
    job, queue = await bench.submit(), bench.stores.queue(bench.desk.queue.name)
    (message,) = await receive(queue, hide=bench.desk.hiding)
    claim = await begin(bench.desk, message)
    assert claim is not None
    async with LeaseKeeper(bench.desk, claim, message):
        await until(lambda: called(bench, "queue.renew"))
    marks = queue.capabilities.rewrites_body
    assert bool(bench.told("lease.renewed")) != marks, "marked before the first renewal, where that is possible"
    (again,) = await receive(queue, hide=bench.desk.hiding)
    await begin(bench.desk, again)
    ends = [attempt.end for attempt in (await bench.row(job.id)).attempts]
    assert ends == ([End.WORKER_LOST, None] if marks else [None])


async def test_a_lease_that_is_renewed_is_left_alone_whatever_the_wall_clock_says(
    bench: Bench, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await row_without_message(bench)
    claim = await claimed(bench.other(), job)
    sweeper = a_sweeper(bench)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(hours=5))
    for _ in range(6):
        await sweeper.sweep()
        time.ahead += LEASE * 0.6
        claim = await bench.other().jobs.renew(claim, lease=LEASE)
    assert await bench.counts() == (0, 0, 0)


async def test_a_row_with_a_longer_lease_than_ours_is_given_its_own(bench: Bench, time: Time) -> None:
    job = await row_without_message(bench)
    await claimed(bench.other(), job, lease=10 * LEASE)
    sweeper = a_sweeper(bench)
    await sweeper.sweep()
    time.ahead += 5 * LEASE
    await sweeper.sweep()
    assert await bench.counts() == (0, 0, 0)
    time.ahead += 6 * LEASE
    await sweeper.sweep()
    assert (await bench.counts())[0] == 1


async def test_the_time_that_a_slow_answer_took_proves_nothing(
    bench: Bench, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row may have been written a moment before the answer left."""
    job = await row_without_message(bench)
    await claimed(bench.other(), job, lease=30 * LEASE)
    sweeper = a_sweeper(bench)
    answer = sweeper._all_running

    async def slowly() -> list[Job]:
        time.ahead += 40 * LEASE
        return await answer()

    monkeypatch.setattr(sweeper, "_all_running", slowly)
    await sweeper.sweep()
    await sweeper.sweep()
    assert await bench.counts() == (0, 0, 0)
    await sweeper.sweep()
    assert (await bench.counts())[0] == 1


async def test_two_sweepers_do_no_harm(bench: Bench, time: Time) -> None:
    owed = await row_without_message(bench, "outbox")
    dead = await row_without_message(bench)
    await claimed(bench.other(), dead)
    sweepers = [a_sweeper(bench), a_sweeper(bench)]
    for _ in range(3):
        await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))
        time.ahead += LEASE + 0.1
    while (await bench.counts())[0]:
        await bench.process(succeed)
    for job in (owed, dead):
        assert (await bench.row(job.id)).state is JobState.COMPLETED
    assert [attempt.end for attempt in (await bench.row(owed.id)).attempts] == [End.OK]
    assert [attempt.end for attempt in (await bench.row(dead.id)).attempts] == [End.WORKER_LOST, End.OK]


async def test_a_queued_job_that_lost_its_message_is_woken_within_two_hours(bench: Bench, time: Time) -> None:
    job = await row_without_message(bench)
    sweeper = a_sweeper(bench)
    await sweeper.sweep()
    assert await bench.counts() == (0, 0, 0)
    time.ahead += 3700
    await sweeper.sweep()
    await sweeper.sweep()
    assert (await bench.counts())[0] == 1
    await bench.process(succeed)
    assert (await bench.row(job.id)).state is JobState.COMPLETED


async def test_a_backlog_is_not_doubled(bench: Bench, time: Time) -> None:
    for _ in range(3):
        await bench.submit()
    time.ahead += 3700
    await a_sweeper(bench).sweep()
    assert await bench.counts() == (3, 0, 0)


async def test_a_message_without_a_row_is_set_aside_as_an_orphan(bench: Bench) -> None:
    queue = bench.inner.queue(bench.desk.queue.name)
    await queue.put(WakeUp(job="nobody", spec=replace(a_spec(), id="nobody")).encode(), message_id="x")
    await bench.process(succeed)
    assert await bench.counts() == (0, 0, 1)
    (letter,) = await queue.peek(10, dead=True)
    assert letter.reason == "orphan"
    assert "nobody" in letter.description
    await bench.submit()
    await bench.process(succeed)


async def test_results_that_no_row_names_are_collected_and_the_others_stay(bench: Bench) -> None:
    done = await bench.submit()
    await bench.process(succeed)
    done = await bench.row(done.id)
    running = await row_without_message(bench)
    claim = await claimed(bench.other(), running)
    assert done.result is not None
    live = f"results/{running.id}/1-{claim.token}/result"
    garbage = [
        f"results/{done.id}/7-0123456789abcdef/result",
        f"results/{running.id}/1-0123456789abcdef/result",
        f"results/{a_spec().id}/1-0123456789abcdef/result",
    ]
    for name in (live, *garbage):
        await bench.inner.blobs.put(name, b"bytes")
    await a_sweeper(bench).sweep()
    assert set(await bench.blobs("results/")) == {done.result.blob, live}


async def test_an_input_without_a_row_goes_behind_a_tombstone_once_it_is_old(bench: Bench, time: Time) -> None:
    spec = a_spec()
    await bench.inner.blobs.put(spec.source.blob, b"bytes")
    kept = await bench.submit()
    sweeper = a_sweeper(bench)
    time.ahead += 86400
    await sweeper.sweep()
    assert spec.source.blob in await bench.blobs("inputs/"), "a repeated request may still finish it"
    time.ahead += 3601
    await sweeper.sweep()
    assert await bench.blobs("inputs/") == [kept.spec.source.blob]
    with pytest.raises(AlreadyExistsError):
        await bench.inner.table(TABLE).insert(spec.id, spec_to_fields(spec), tag=JobState.QUEUED)
    assert await bench.desk.jobs.read(spec.id) is None
    assert [job.id for job in (await bench.desk.jobs.list()).jobs] == [kept.id]
    time.ahead += 2 * 86400 + 1
    await sweeper.sweep()
    await bench.inner.table(TABLE).insert(spec.id, spec_to_fields(spec), tag=JobState.QUEUED)


async def test_retention_removes_by_state_and_keeps_what_a_person_may_replay(bench: Bench, time: Time) -> None:
    completed, failed = await bench.submit(), await bench.submit()
    await bench.process(succeed)
    await bench.end_once(End.BAD_INPUT)
    sweeper = a_sweeper(bench)
    time.ahead += 7 * 86400 - 60
    await sweeper.sweep()
    assert (await bench.row(completed.id)).result is not None
    time.ahead += 120
    await sweeper.sweep()
    assert await bench.desk.jobs.read(completed.id) is None
    assert (await bench.row(failed.id)).state is JobState.FAILED
    assert await bench.blobs("results/") == []
    assert await bench.blobs("inputs/") == [failed.spec.source.blob]


async def test_retention_of_a_poisoned_job_takes_its_dead_letter_first(bench: Bench, time: Time) -> None:
    job = await bench.submit()
    await bench.end_once(End.POISON_NOW)
    assert await bench.counts() == (0, 0, 1)
    bench.faults.refuse("jobs.delete")
    sweeper = a_sweeper(bench, poisoned=timedelta(days=1))
    time.ahead += 86401
    await sweeper.sweep()
    assert await bench.counts() == (0, 0, 0)
    assert await bench.blobs("inputs/") == []
    assert (await bench.row(job.id)).state is JobState.POISONED, "the row goes last"
    await sweeper.sweep()
    assert await bench.desk.jobs.read(job.id) is None


async def test_idempotency_keys_are_forgotten_after_a_day(bench: Bench, time: Time) -> None:
    first = await bench.submit(key="k")
    sweeper = a_sweeper(bench)
    time.ahead += 86400 - 60
    await sweeper.sweep()
    assert (await bench.submit(key="k")).id == first.id
    time.ahead += 120
    await sweeper.sweep()
    assert not (await bench.inner.table("idempotency").list()).rows


async def test_a_part_that_meets_an_error_keeps_no_other_from_its_work(bench: Bench, time: Time) -> None:
    job = await row_without_message(bench)
    await claimed(bench.other(), job)
    bench.faults.refuse("jobs.notes", times=None)
    bench.faults.refuse("blobs.list", times=None)
    sweeper = a_sweeper(bench)
    await sweeper.sweep()
    time.ahead += LEASE
    await sweeper.sweep()
    assert (await bench.counts())[0] == 1
    assert bench.told("store.unavailable")


async def test_an_error_at_any_call_of_a_pass_is_made_good_by_a_later_one(bench: Bench, engine: Engine) -> None:
    at, step = 1, 1 if engine is EMBEDDED else 9  # each pass is hundreds of requests to a server
    while True:
        job = await row_without_message(bench, "outbox")
        sweeper = a_sweeper(bench)
        await sweeper.sweep()
        before = len(bench.faults.fired)
        bench.faults.refuse("*", at=at) if at % 2 else bench.faults.lose_answer("*", at=at)
        await sweeper.sweep()
        struck = len(bench.faults.fired) > before
        await sweeper.sweep()
        await sweeper.sweep()
        while (await bench.counts())[0]:
            await bench.process(succeed)
        done = await bench.row(job.id)
        assert done.state is JobState.COMPLETED, f"a fault at call {at}"
        assert [attempt.end for attempt in done.attempts] == [End.OK]
        if not struck:
            break
        at += step
    assert at > 5


async def test_one_instance_sweeps_and_another_takes_over(bench: Bench) -> None:
    async def led() -> str:
        row = await bench.inner.table("leases").read(KEY)
        return str(row.fields["holder"]) if row else ""

    table = bench.inner.table("leases")
    first = asyncio.create_task(Sweeper(a_sweeper(bench), table, "first", interval=0.05).run())
    await until(lambda: _is(led, "first"))
    second = asyncio.create_task(Sweeper(a_sweeper(bench), table, "second", interval=0.05).run())
    first.cancel()
    await asyncio.wait([first])
    await until(lambda: _is(led, "second"))
    await row_without_message(bench, "outbox")
    await until(lambda: woken(bench))
    second.cancel()
    await asyncio.wait([second])
    assert await table.read(KEY) is None, "an orderly end leaves the row to the next at once"


async def test_a_sweeper_that_died_is_replaced(bench: Bench, time: Time) -> None:
    table = bench.inner.table("leases")
    await table.insert(KEY, {"holder": "dead"})
    sweeper = Sweeper(a_sweeper(bench), table, "next", interval=10.0)
    assert not await sweeper._leads()
    time.ahead += 14
    assert not await sweeper._leads()
    time.ahead += 2
    assert await sweeper._leads()


async def woken(bench: Bench) -> bool:
    return await bench.counts() == (1, 0, 0)


async def _is(read: Callable[[], Awaitable[str]], wanted: str) -> bool:
    return await read() == wanted


async def test_poisoning_leaves_a_debt_that_a_dead_letter_settles(bench: Bench) -> None:
    job = await bench.submit()
    claim = await claimed(bench.desk, await bench.row(job.id))
    await bench.desk.jobs.poison(job.id, claim.version, ended(claim.attempt, End.APP_ERROR), reason="app: x")
    assert await bench.inner.table(TABLE).notes(DEBT) == [Note(DEBT, job.id)]
    await bench.process(succeed)
    assert await bench.inner.table(TABLE).notes(DEBT) == []
    assert await bench.counts() == (0, 0, 1)
