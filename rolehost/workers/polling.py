"""How a worker asks a queue for work, and how long it waits before it asks again.

One poller serves all slots of a process. Where each request is billed, one that brings nothing is what must be rare.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import StoreThrottledError
from rolehost.stores.nudges import Nudged
from rolehost.telemetry.transactions import JOBS, POLLING, spent_on

if TYPE_CHECKING:
    from rolehost.stores import Inbox, QueueMessage

SHORTEST = 0.1
LONGEST = 30.0
AFTER_ERROR = 1.0
JITTER = 0.1
"""Of a pause: processes that began together don't ask together for ever."""


class Poller:
    """Receives from a queue that may be unable to wait: then the pauses between empty receives grow.

    Args:
        queue: the queue, or the queues of all levels.
        hiding: seconds that a message is hidden when it is received.
        longest: seconds between two looks that bring nothing, at the most (`Worker.PollSeconds`).
    """

    def __init__(self, queue: Inbox, *, hiding: float, longest: float = LONGEST) -> None:
        self._queue = queue
        self._hiding = hiding
        self._idle = IdleDelay(longest=longest)

    async def receive(self, wanted: int, *, wait: float) -> Sequence[QueueMessage]:
        """Messages, or none.

        Args:
            wanted: how many can be used; no more come than the queue gives at a time.
            wait: seconds that the queue waits for one, if it can.

        Raises:
            StoreError: the store did not answer.
        """
        count = min(wanted, self._queue.limits.receives_per_call)
        with spent_on(POLLING, undecided=True) as spending:
            messages = await self._queue.receive(count, hide=self._hiding, wait=wait)
            if messages:
                spending.purpose = JOBS
        if messages:
            self._idle.reset()
        else:
            self._idle.answered()
        return messages

    async def after_nothing(self) -> None:
        """Wait after a receive that brought nothing, unless the queue itself has waited."""
        if not self._queue.capabilities.waits:
            seconds = self._idle.after_nothing() * random.uniform(1 - JITTER, 1.0)  # noqa: S311 - jitter, not a secret
            await self._pause(seconds)

    async def after_error(self) -> None:
        """Wait after a receive that failed."""
        await clock.sleep(self._idle.after_error())

    async def _pause(self, seconds: float) -> None:
        """Until the pause is over, or somebody on this machine has put a message."""
        if isinstance(self._queue, Nudged):
            await self._queue.nudged(seconds)
        else:
            await clock.sleep(seconds)


class IdleDelay:
    """How long to wait before the next look.

    Where a queue can't wait: from 100 ms, growing with chance, to 30 s or what is set, and reset by work. After an
    error: the same from a second on, so that many workers don't come back at once.
    """

    def __init__(self, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest
        self._next_after_error = AFTER_ERROR

    def reset(self) -> None:
        """There was work."""
        self._next = self._shortest
        self.answered()

    def answered(self) -> None:
        """The store answers: its next error is a first one."""
        self._next_after_error = AFTER_ERROR

    def after_nothing(self) -> float:
        """There was none."""
        now = self._next
        self._next = min(self._longest, self._next * random.uniform(1.3, 1.9))  # noqa: S311 - jitter, not a secret
        return now

    def after_error(self) -> float:
        """The store did not answer: a second at first, twice as long each time, and a little by chance."""
        now = self._next_after_error
        self._next_after_error = min(self._longest, 2 * now)
        return min(self._longest, now * random.uniform(1.0, 1.5))  # noqa: S311 - the same


def at_least_as_asked(error: Exception, usual: float, most: float) -> float:
    """The pause before a call is made again: as usual, or as long as the store asks for, up to `most`."""
    asked = error.retry_after if isinstance(error, StoreThrottledError) else None
    return usual if asked is None else max(usual, min(asked, most))
