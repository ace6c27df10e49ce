from __future__ import annotations

import asyncio

import pytest

from rolehost.host.stopping import HURRY_SECONDS, StopOrder, StopRequests
from support.fake_clock import FakeClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch)


async def settled() -> None:
    """Let everything run that can, without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_first_signal_gives_the_drain_time_and_a_later_one_haste(clock: FakeClock) -> None:
    requests = StopRequests(25.0)
    assert requests.note()
    assert not requests.note()  # within a second: the same request
    assert requests.order is not None
    assert (requests.order.left, requests.stop.is_set(), requests.hurry.is_set()) == (25.0, True, False)
    await clock.advance(5)
    assert requests.order.left == 20
    assert requests.note()
    assert (requests.order.left, requests.hurry.is_set()) == (HURRY_SECONDS, True)
    assert not requests.note()


async def test_a_user_s_stop_has_no_limit_until_a_signal_comes(clock: FakeClock) -> None:
    requests = StopRequests(25.0)
    requests.ask(None)
    await clock.advance(10_000)
    assert requests.order is not None
    assert (requests.order.left, requests.order.reason) == (None, "user")
    assert requests.note()
    assert requests.order.left == 25
    requests.ask(None)
    assert requests.order.left == 25


async def test_work_is_waited_for_until_the_deadline_of_the_newest_order(clock: FakeClock) -> None:
    requests = StopRequests(25.0)
    work = asyncio.create_task(asyncio.Event().wait())
    announced: list[float | None] = []
    recycle = StopOrder(300.0, 0.0, "recycle")
    waiting = asyncio.create_task(requests.by_deadline(work, recycle, lambda order: announced.append(order.left)))
    await settled()
    await clock.advance(100)
    requests.note()
    await settled()
    await clock.advance(24)
    assert not waiting.done()
    await clock.advance(2)
    async with asyncio.timeout(5):
        assert await waiting is False
    assert announced == [300, 25]
    work.cancel()


async def test_work_that_ends_in_time_is_no_overrun(clock: FakeClock) -> None:
    requests = StopRequests()
    done = asyncio.Event()
    work = asyncio.create_task(done.wait())
    waiting = asyncio.create_task(requests.by_deadline(work, StopOrder(None, 0.0), lambda _: None))
    await settled()
    await clock.advance(100_000)
    assert not waiting.done()
    done.set()
    async with asyncio.timeout(5):
        assert await waiting is True
