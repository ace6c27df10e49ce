"""A clock that stands still until a test moves it.

    with FakeClock() as time:
        waiting = asyncio.create_task(poll_every_minute())
        await time.advance(60)

It stands in for `rolehost.clock`, in everything of this process that reads or waits by it: leases, pauses, a worker of
yours that says `await clock.sleep(5)`. `time.time()`, `asyncio.sleep()` and other processes go on as ever.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from unittest import mock

from rolehost import clock

_TURNS = 10
"""Steps of the loop that whoever was woken gets before time moves on: what it does may sleep again."""


@dataclass(frozen=True, slots=True)
class _Sleeper:
    due: float
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Future[None]

    def wake(self) -> None:
        """From any thread: a role's own coroutines run on another loop than the test."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class FakeClock:
    """In the place of `rolehost.clock`, as long as a `with` block lasts; whoever still sleeps then is woken.

    Args:
        began: the time of day at first, with its time zone; None: the real one.
    """

    def __init__(self, began: datetime | None = None) -> None:
        if began is not None and began.tzinfo is None:
            raise ValueError("`began` needs a time zone, as datetime.now(UTC) has")
        self.seconds = 0.0
        """How far the clock was moved."""
        self._began = began or clock.now()
        self._monotonic = clock.monotonic()
        self._boot = clock.since_boot()
        self._sleepers: list[_Sleeper] = []
        self._places = ExitStack()

    def __enter__(self) -> Self:
        """Stand in."""
        for name, stand_in in {
            "now": self.now,
            "monotonic": lambda: self._monotonic + self.seconds,
            "since_boot": lambda: self._boot + self.seconds,
            "sleep": self._sleep,
        }.items():
            self._places.enter_context(mock.patch.object(clock, name, stand_in))
        return self

    def __exit__(self, *_: object) -> None:
        """Give the place back, and let nobody wait for a clock that is gone."""
        self._places.close()
        for sleeper in self._sleepers:
            sleeper.wake()
        self._sleepers.clear()

    def now(self) -> datetime:
        """The time of day."""
        return self._began + timedelta(seconds=self.seconds)

    @property
    def sleeping(self) -> list[float]:
        """In how many seconds each sleeper is due, the next one first."""
        return sorted(each.due - self.seconds for each in self._sleepers if not each.woken.done())

    async def advance(self, seconds: float) -> None:
        """Let time pass; who is due wakes up in order, and may sleep again before the end.

        Args:
            seconds: how long; 0 lets those run that have something to do now.
        """
        await _let_run()
        end = self.seconds + seconds
        while due := [each for each in self._sleepers if each.due <= end]:
            first = min(due, key=lambda each: each.due)
            self._sleepers.remove(first)
            self.seconds = max(self.seconds, first.due)
            first.wake()
            await _let_run()
        self.seconds = end

    def jump(self, seconds: float) -> None:
        """Let time pass at once, as for a machine that slept; sleepers that are due wake up when the loop goes on."""
        self.seconds += seconds
        for sleeper in [each for each in self._sleepers if each.due <= self.seconds]:
            self._sleepers.remove(sleeper)
            sleeper.wake()

    async def _sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = _Sleeper(self.seconds + seconds, loop, loop.create_future())
        self._sleepers.append(sleeper)
        try:
            await sleeper.woken
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)


async def _let_run() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
