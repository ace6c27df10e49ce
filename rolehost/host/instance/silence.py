"""A role process that gives no sign of life."""

from __future__ import annotations

import asyncio

from rolehost import clock


class Silence:
    """Tells when a role process has been silent for too long; one that never has to speak is never silent.

    Args:
        longest: seconds between two signs of life.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._left = longest
        self._listening = asyncio.Event()

    def begin(self, first: float) -> None:
        """Wait for the first sign of a new life, for so many seconds at least."""
        self._left = max(first, self._longest)
        self._listening.set()

    def broken(self) -> None:
        """It gave a sign of life, and has to give more from now on."""
        self._left = self._longest
        self._listening.set()

    async def over(self) -> None:
        """Return once it has been silent for too long."""
        await self._listening.wait()
        step = self._longest / 10
        while self._left > 0:
            before = clock.monotonic()
            await clock.sleep(step)
            # We may have been held up ourselves, with signs of life waiting unread: count two steps at most.
            self._left -= min(clock.monotonic() - before, 2 * step)
