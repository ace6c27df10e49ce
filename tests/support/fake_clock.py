"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from rolehost import clock

_BEGAN = datetime(2026, 11, 21, tzinfo=UTC)


class FakeClock:
    """In the place of `rolehost.clock`, for everything in this process that waits by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        monkeypatch.setattr(clock, "sleep", self._sleep)
        monkeypatch.setattr(clock, "monotonic", lambda: self.seconds)
        monkeypatch.setattr(clock, "now", lambda: _BEGAN + timedelta(seconds=self.seconds))

    async def _sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.seconds + seconds, sleeper))
        await sleeper

    def sleeps_for(self, seconds: float) -> bool:
        """Whether somebody wakes up so many seconds from now."""
        return any(not sleeper.done() and end - self.seconds == seconds for end, sleeper in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let time pass; who is due wakes up in order."""
        await asyncio.sleep(0)
        end = self.seconds + seconds
        while due := [each for each in self._sleepers if each[0] <= end]:
            first = min(due, key=lambda each: each[0])
            self._sleepers.remove(first)
            self.seconds = max(self.seconds, first[0])
            if not first[1].done():
                first[1].set_result(None)
            for _ in range(10):  # what it does then may sleep again before the end
                await asyncio.sleep(0)
        self.seconds = end
