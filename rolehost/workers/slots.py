"""Slots: how many messages are worked on at a time, and how many more are fetched ahead of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from rolehost import clock

if TYPE_CHECKING:
    from rolehost.stores import QueueMessage

MOST_AHEAD = 32


class Slots:
    """A worker's slots, and the line of messages before them.

    A message is received for a free slot, or for one that will be free within a quarter of a lease; nothing is claimed
    before its slot is free.

    Args:
        count: how many run at a time.
        lease: seconds; a received message stays hidden for half of them at least.
    """

    Giver: TypeAlias = Callable[[], None]

    def __init__(self, count: int, *, lease: float) -> None:
        self._count = count
        self._lease = lease
        self._taken = 0
        self._freed = asyncio.Event()
        self._freed.set()
        self._usual: float | None = None
        self._line: deque[tuple[float, QueueMessage]] = deque()

    async def wait_for_free(self) -> None:
        """Return once a slot is free; it is not taken."""
        await self._freed.wait()

    def take(self) -> Giver:
        """Take a free slot; the answer gives it back, once however often it is called."""
        self._taken += 1
        since = clock.monotonic()
        given: list[bool] = []

        def give_back() -> None:
            if given:
                return
            given.append(True)
            self._taken -= 1
            self._learn(clock.monotonic() - since)
            self._freed.set()

        if self._taken >= self._count:
            self._freed.clear()
        return give_back

    def wanted(self, within: float | None = None) -> int:
        """How many messages to ask for: the free slots, and what they will take soon.

        Args:
            within: seconds; None: a quarter of a lease.
        """
        ahead = 0
        if self._usual is not None:
            seconds = self._lease / 4 if within is None else within
            ahead = min(MOST_AHEAD, int(self._count * seconds / max(self._usual, 0.001)))
        return max(1, self._count - self._taken + ahead)

    def line_up(self, messages: Sequence[QueueMessage]) -> None:
        """Keep messages that came with the first one."""
        now = clock.monotonic()
        self._line.extend((now, message) for message in messages)

    def next_message(self) -> QueueMessage | None:
        """The first in line. One that has waited for a quarter of a lease is left to become visible again."""
        while self._line:
            since, message = self._line.popleft()
            if clock.monotonic() - since < self._lease / 4:
                return message
        return None

    def rest(self) -> Sequence[QueueMessage]:
        """All that are still in line; the line is empty afterwards."""
        messages = [message for _, message in self._line]
        self._line.clear()
        return messages

    def _learn(self, seconds: float) -> None:
        """How long a slot is usually taken, mostly by the latest."""
        self._usual = seconds if self._usual is None else 0.7 * self._usual + 0.3 * seconds
