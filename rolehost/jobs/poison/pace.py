"""So many in a second, and no bursts."""

from __future__ import annotations

from rolehost import clock


class Pace:
    """Lets one through at a time: the first at once, each later one an even step after the one before.

    Args:
        rate: how many in a second; None: as fast as it goes.
    """

    def __init__(self, rate: float | None = None) -> None:
        self._step = 1 / rate if rate else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the next turn; time that was lost is not made up for."""
        now = clock.monotonic()
        if self._next > now:
            await clock.sleep(self._next - now)
        self._next = max(self._next, now) + self._step
