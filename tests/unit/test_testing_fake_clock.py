"""The clock that stands still: who reads it, who sleeps by it, and who is woken."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.stores.connect import connect
from rolehost.testing import FakeClock, Faults, FaultyStores
from rolehost.user_code import UserCode
from support.jobs import until

BEGAN = datetime(2027, 3, 31, 12, tzinfo=UTC)


async def test_time_passes_when_it_is_told_to() -> None:
    with FakeClock(BEGAN) as fake:
        before = clock.monotonic(), clock.since_boot()
        assert (clock.now(), clock.monotonic()) == (BEGAN, before[0])
        await fake.advance(90)
        assert clock.now() == BEGAN + timedelta(seconds=90)
        assert (clock.monotonic() - before[0], clock.since_boot() - before[1]) == (90, 90)
        fake.jump(10)
        assert (fake.seconds, clock.now()) == (100, BEGAN + timedelta(seconds=100))
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=60)
    assert abs(clock.monotonic() - time.monotonic()) < 60


async def test_sleepers_wake_in_order_and_may_sleep_again() -> None:
    woken: list[tuple[str, float]] = []

    async def every(name: str, seconds: float) -> None:
        while True:
            await clock.sleep(seconds)
            woken.append((name, fake.seconds))

    with FakeClock() as fake:
        tasks = [asyncio.create_task(every("slow", 50)), asyncio.create_task(every("quick", 20))]
        await fake.advance(0)
        assert fake.sleeping == [20, 50]
        await fake.advance(19)
        assert woken == []
        await fake.advance(41)
        assert woken == [("quick", 20), ("quick", 40), ("slow", 50), ("quick", 60)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert fake.sleeping == []


async def test_a_jump_wakes_who_is_due() -> None:
    with FakeClock() as fake:
        sleepers = [asyncio.create_task(clock.sleep(seconds)) for seconds in (5, 10, 20)]
        await fake.advance(0)
        fake.jump(10)
        await asyncio.wait(sleepers[:2], timeout=10)
        assert [each.done() for each in sleepers] == [True, True, False]
        assert fake.sleeping == [10]
    await asyncio.wait_for(sleepers[2], 10)


async def test_nobody_sleeps_for_no_time() -> None:
    with FakeClock() as fake:
        await asyncio.wait_for(clock.sleep(0), 10)
        assert fake.sleeping == []


async def test_a_role_s_own_coroutine_on_another_loop_is_woken() -> None:
    slept = []

    async def work() -> None:
        slept.append("begun")
        await clock.sleep(60)
        slept.append("done")

    async def asleep() -> bool:
        return bool(fake.sleeping)

    with FakeClock() as fake:
        working = UserCode().call(work)
        await until(asleep)
        await fake.advance(60)
        await asyncio.wait_for(working, 10)
    assert slept == ["begun", "done"]


async def test_what_a_queue_hides_shows_when_the_time_has_come(tmp_path: Path) -> None:
    faults = Faults()
    async with connect({"ROLEHOST_DATA": str(tmp_path / "data")}) as inner:
        queue = FaultyStores(inner, faults).queue("work-jobs")
        with FakeClock() as fake:
            await queue.put("hello", message_id="m", delay=3600)
            assert not await queue.receive(1, hide=30)
            await fake.advance(3601)
            (message,) = await queue.receive(1, hide=30)
            assert message.body == "hello"
            faults.delay("queue.complete", 5.0)
            completing = asyncio.create_task(queue.complete(message))
            await fake.advance(4.9)
            assert not completing.done()
            await fake.advance(0.2)
            await asyncio.wait_for(completing, 10)


def test_the_time_of_day_has_a_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        FakeClock(BEGAN.replace(tzinfo=None))
