"""What asks for a stop: a signal, the user through the fabric, haste."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from rolehost import clock
from rolehost.host.waits import first

HURRY_SECONDS = 2.0
"""What is left after a second signal: enough to end console applications and to give their jobs back, uncharged."""
_ONE_REQUEST_SECONDS = 0.5

_Value = TypeVar("_Value")


async def deaf_afterwards(work: Awaitable[_Value]) -> _Value:
    """The last that a process does: signals that come after it change nothing, not even the exit code.

    The loop takes its handlers back before the interpreter has ended, and one more Control-C would end an orderly stop
    as if it were none.
    """
    try:
        return await work
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A stop that was asked for.

    Args:
        seconds: from `since` on; None: as long as it takes (the original's exemption of user-initiated stops).
        since: on `clock.monotonic()`.
        reason: a word for the log.
    """

    seconds: float | None
    since: float
    reason: str = "stop"

    @property
    def left(self) -> float | None:
        """The seconds that are left; None: no limit."""
        return None if self.seconds is None else max(self.seconds - (clock.monotonic() - self.since), 0.0)

    async def passed(self) -> None:
        """Wait until the time is over."""
        if (left := self.left) is None:
            await asyncio.Event().wait()
        else:
            await clock.sleep(left)


class StopRequests:
    """Signals and orders to stop. The first asks for a stop in order, a second signal for haste.

    A service manager may signal every process of the tree, and each parent tells its children besides: what comes
    within a second of the first counts as one request.

    Args:
        drain_seconds: what a stop by signal gives; may be changed.
    """

    def __init__(self, drain_seconds: float = 25.0) -> None:
        self.drain_seconds = drain_seconds
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.order: StopOrder | None = None
        self._signalled: float | None = None
        self._changed = asyncio.Event()

    def note(self) -> bool:
        """A signal came; whether it asks for something new."""
        if self._signalled is None:
            self._signalled = clock.monotonic()
            self._give(StopOrder(self.drain_seconds, self._signalled))
            return True
        if clock.monotonic() - self._signalled < _ONE_REQUEST_SECONDS or self.hurry.is_set():
            return False
        self.hurry.set()
        self._give(StopOrder(HURRY_SECONDS, clock.monotonic(), "hurry"))
        return True

    def ask(self, seconds: float | None) -> None:
        """The user asks for a stop.

        Args:
            seconds: within so many; None: however long it takes. A signal that came before stands.
        """
        if self._signalled is None:
            self._give(StopOrder(seconds, clock.monotonic(), "user"))

    async def by_deadline(
        self, work: asyncio.Task[Any], order: StopOrder, announce: Callable[[StopOrder], None]
    ) -> bool:
        """Wait for work that has to end within the time of a stop; a newer order takes the place of the one before.

        Args:
            work: goes on, whatever the answer.
            order: the stop, or recycle, that has begun.
            announce: called with each order.

        Returns:
            Whether the work was done in time.
        """
        while True:
            announce(order)
            asked = self.order
            which = await first(work, self._other_than(asked), order.passed())
            if which != 1:
                return which == 0
            order = self.order or order

    async def _other_than(self, order: StopOrder | None) -> None:
        while self.order is order:
            self._changed.clear()
            await self._changed.wait()

    def _give(self, order: StopOrder) -> None:
        self.order = order
        self.stop.set()
        self._changed.set()
