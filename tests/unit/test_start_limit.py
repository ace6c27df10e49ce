from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from rolehost.host.instance.start_limit import start_overdue
from rolehost.telemetry import subscribe
from support.fake_clock import FakeClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch)


@pytest.fixture
def events() -> Iterator[list[str]]:
    seen: list[str] = []

    def note(event: str, _: dict[str, Any]) -> None:
        seen.append(event)

    unsubscribe = subscribe(note)
    yield seen
    unsubscribe()


async def test_a_start_is_told_after_five_minutes_and_over_after_thirty(clock: FakeClock, events: list[str]) -> None:
    over = asyncio.create_task(start_overdue(1800.0, lambda: False))
    await asyncio.sleep(0)
    await clock.advance(299)
    assert events == []
    await clock.advance(2)
    assert events == ["instance.start_slow"]
    await clock.advance(1498)
    assert not over.done()
    await clock.advance(2)
    async with asyncio.timeout(5):
        await over


async def test_an_instance_that_was_ready_is_never_late(clock: FakeClock, events: list[str]) -> None:
    over = asyncio.create_task(start_overdue(1800.0, lambda: True))
    await asyncio.sleep(0)
    await clock.advance(100_000)
    assert (over.done(), events) == (False, [])
    over.cancel()
