"""The lease: renewed whatever the stores do, ended only by the row or by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.errors import StoreFullError, VersionMismatchError
from rolehost.jobs.job import Job
from rolehost.jobs.wake_up import WakeUp
from rolehost.workers.claiming import begin
from rolehost.workers.lease import LeaseEnd, LeaseKeeper
from support.jobs import Bench, claimed, open_bench, until

LEASE = 1.2
MARGIN = LEASE / 6


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, lease=LEASE) as bench:
        yield bench


@asynccontextmanager
async def kept(bench: Bench) -> AsyncIterator[LeaseKeeper]:
    """A lease on a job that was just claimed."""
    await bench.submit()
    message = await bench.receive()
    claim = await begin(bench.desk, message)
    assert claim is not None
    async with LeaseKeeper(bench.desk, claim, message) as lease:
        yield lease


async def renewed(bench: Bench, times: int) -> None:
    """Wait for so many renewals from now."""
    already = len(bench.told("lease.renewed"))

    async def enough() -> bool:
        return len(bench.told("lease.renewed")) >= already + times

    await until(enough)


def alive(lease: LeaseKeeper) -> bool:
    return lease.ended is None


async def row(bench: Bench, lease: LeaseKeeper) -> Job:
    return await bench.row(lease.claim.spec.id)


async def test_a_lease_is_renewed_for_as_long_as_it_takes(bench: Bench) -> None:
    begun = clock.monotonic()
    async with kept(bench) as lease:
        await renewed(bench, 4)
        assert clock.monotonic() - begun > LEASE * 1.2
        assert alive(lease)
        claim = await lease.stop()
        assert (await row(bench, lease)).version == claim.version
    assert await bench.counts() == (0, 1, 0)  # hidden all the time


async def test_renewals_are_sent_at_a_third_of_the_lease(bench: Bench) -> None:
    async with kept(bench) as lease:
        sent = [lease.claim.sent]
        for _ in range(3):
            await renewed(bench, 1)
            sent.append(lease.claim.sent)
        gaps = [later - earlier for earlier, later in pairwise(sent)]
        assert all(LEASE / 3 - 0.01 <= gap < LEASE / 2 for gap in gaps), gaps


async def test_renewing_keeps_the_rows_version_in_the_message(bench: Bench) -> None:
    async with kept(bench) as lease:
        await renewed(bench, 1)
        claim = await lease.stop()
    woken = WakeUp.decode((await bench.receive()).body)
    assert (woken.seen, woken.version) == (claim.version, None)


async def test_a_killed_workers_job_is_claimable_after_one_lease(bench: Bench) -> None:
    """The version is put into the message soon after the claim, not only at the first renewal."""
    async with kept(bench) as lease:
        await until(lambda: called(bench, "queue.renew"))
        assert "lease.renewed" not in [name for name, _ in bench.facts]
        lost = lease.claim.spec.id
    claim = await begin(bench.desk, await bench.receive())
    assert claim is not None
    assert [attempt.end for attempt in (await bench.row(lost)).attempts] == ["worker_lost", None]


async def called(bench: Bench, call: str, times: int = 1) -> bool:
    return bench.faults.calls.count(call) >= times


def refuse_writes(bench: Bench) -> None:
    bench.faults.refuse("jobs.write", times=2)


def refuse_all(bench: Bench) -> None:
    bench.faults.refuse("jobs.*", times=4)


def fill_disk(bench: Bench) -> None:
    bench.faults.refuse("jobs.write", times=2, error=StoreFullError)
    bench.faults.refuse("queue.renew", times=2, error=StoreFullError)


def lose_answers(bench: Bench) -> None:
    bench.faults.lose_answer("jobs.write", times=2)


def refuse_falsely_and_be_silent(bench: Bench) -> None:
    bench.faults.refuse("jobs.write", error=VersionMismatchError)
    bench.faults.refuse("jobs.read", times=2)


def refuse_messages(bench: Bench) -> None:
    bench.faults.refuse("queue.renew", times=3)


def silence_the_queue(bench: Bench) -> None:
    bench.faults.delay("queue.renew", 60)


@pytest.mark.parametrize(
    "plan",
    [
        refuse_writes,
        refuse_all,
        fill_disk,
        lose_answers,
        refuse_falsely_and_be_silent,
        refuse_messages,
        silence_the_queue,
    ],
)
async def test_transient_errors_do_not_end_a_lease(bench: Bench, plan: Callable[[Bench], None]) -> None:
    async with kept(bench) as lease:
        plan(bench)
        await renewed(bench, 2)
        assert alive(lease)
        assert bench.faults.fired
        claim = await lease.stop()
        assert (await row(bench, lease)).version == claim.version


async def test_a_version_that_moves_under_it_is_taken_up(bench: Bench) -> None:
    """Someone else wrote the row, and the token is still ours: progress, a note, an answer that was lost."""
    async with kept(bench) as lease:
        job = await row(bench, lease)
        await bench.inner.table("jobs").write(job.id, job.version, {"progress": '{"percent":5}'})
        await renewed(bench, 2)
        assert alive(lease)


async def take_over(bench: Bench, lease: LeaseKeeper) -> None:
    await claimed(bench.other(), await row(bench, lease))


async def cancel(bench: Bench, lease: LeaseKeeper) -> None:
    await bench.other().jobs.cancel(await row(bench, lease))


async def remove(bench: Bench, lease: LeaseKeeper) -> None:
    job = await row(bench, lease)
    await bench.inner.table("jobs").delete(job.id, job.version)


@pytest.mark.parametrize("take", [take_over, cancel, remove])
async def test_the_row_proves_a_loss(bench: Bench, take: Callable[[Bench, LeaseKeeper], Awaitable[None]]) -> None:
    async with kept(bench) as lease:
        await take(bench, lease)
        async with asyncio.timeout(LEASE / 3 + 0.3):
            assert await lease.over() is LeaseEnd.LOST
        assert lease.lost
        told = bench.told("attempt.cancelled" if take is cancel else "lease.lost")
        assert told[0]["how"] == "lost"
        writes = bench.faults.calls.count("jobs.write")
        await lease.stop()
        assert bench.faults.calls.count("jobs.write") == writes


async def test_a_refused_receipt_proves_nothing(bench: Bench) -> None:
    async with kept(bench) as lease:
        assert lease.message is not None
        await bench.inner.queue("work-jobs").complete(lease.message)
        await renewed(bench, 2)
        assert alive(lease)
        assert lease.message is None


async def test_trust_ends_a_margin_before_the_lease(bench: Bench) -> None:
    async with kept(bench) as lease:
        bench.faults.refuse("jobs.*", times=None)
        assert await lease.over() is LeaseEnd.EXPIRED
        held = clock.monotonic() - lease.claim.sent
        assert LEASE - MARGIN <= held < LEASE
        assert not lease.lost


async def test_a_store_that_stays_silent_does_not_delay_the_end(bench: Bench) -> None:
    async with kept(bench) as lease:
        bench.faults.delay("jobs.*", 60, times=None)
        assert await lease.over() is LeaseEnd.EXPIRED
        assert clock.monotonic() - lease.claim.sent < LEASE


async def test_a_slow_renewal_counts_from_when_it_was_sent(bench: Bench) -> None:
    async with kept(bench) as lease:
        claimed_at = lease.claim.sent
        bench.faults.delay("jobs.write", LEASE * 0.4)
        bench.faults.refuse("jobs.write", at=2, times=None)
        assert await lease.over() is LeaseEnd.EXPIRED
        assert len(bench.told("lease.renewed")) == 1
        assert LEASE / 3 <= lease.claim.sent - claimed_at < LEASE * 0.6
        assert clock.monotonic() - lease.claim.sent < LEASE


async def test_stopping_awaits_the_renewal_that_is_on_its_way(bench: Bench) -> None:
    async with kept(bench) as lease:
        bench.faults.delay("jobs.write", 0.05)
        await until(lambda: called(bench, "jobs.write", 2))
        claim = await lease.stop()
        assert (await row(bench, lease)).version == claim.version
        assert len(bench.told("lease.renewed")) == 1


async def test_nothing_is_renewed_after_the_block_however_it_ended(bench: Bench) -> None:
    before = asyncio.all_tasks()

    async def broken_off() -> None:
        async with kept(bench):
            bench.faults.delay("jobs.write", 60)
            await until(lambda: called(bench, "jobs.write", 2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken_off()
    assert asyncio.all_tasks() == before


async def test_trust_in_a_claim_counts_from_when_it_was_sent(bench: Bench) -> None:
    await bench.submit()
    message = await bench.receive()
    sent = clock.monotonic()
    bench.faults.delay("jobs.write", 0.4)
    claim = await begin(bench.desk, message)
    assert claim is not None
    assert claim.sent - sent < 0.2
