"""The messages that we hold: their locks are renewed until their hiding ends, then they are given back.

A lock lasts as long as the queue says, whatever a receiver wants; hiding is ours. When the process dies the lock ends
by itself, so that a message is met again after one lock at the most.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from azure.servicebus import ServiceBusReceivedMessage

from rolehost import clock
from rolehost.errors import ReceiptMismatchError, StoreError, StoreUnavailableError
from rolehost.stores.queues import QueueMessage

_SHORTEST_LOCK: Final = 1.0
_LONGEST_LOCK: Final = 300.0


@dataclass(slots=True, eq=False)
class Held:
    """A message under our lock.

    Args:
        message: the SDK's.
        until: when its hiding ends, on the monotonic clock.
        renew_at: when its lock is renewed next.
        busy: it is being settled, and is left alone.
    """

    message: ServiceBusReceivedMessage
    until: float
    renew_at: float
    busy: bool = False

    def renewed(self) -> None:
        """Its lock was renewed just now."""
        self.renew_at = renewal(self.message.locked_until_utc)


class Holdings:
    """What a queue's receiver holds.

    Args:
        renew: renews a message's lock.
        abandon: gives a message back.
    """

    def __init__(
        self,
        renew: Callable[[ServiceBusReceivedMessage], Awaitable[object]],
        abandon: Callable[[ServiceBusReceivedMessage], Awaitable[object]],
    ) -> None:
        self._renew = renew
        self._abandon = abandon
        self._held: dict[str, Held] = {}
        self._changed = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._working: set[asyncio.Task[None]] = set()

    def add(self, message: ServiceBusReceivedMessage, hide: float) -> str:
        """Hold a message for so long; the answer is its receipt."""
        held = Held(message, clock.monotonic() + hide, renewal(message.locked_until_utc))
        return self._enter(held)

    def _enter(self, held: Held) -> str:
        receipt = f"{held.message.sequence_number}.{secrets.token_hex(8)}"
        self._held[receipt] = held
        self._changed.set()
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep(), name="locks of a queue")
        return receipt

    def find(self, message: QueueMessage) -> Held:
        """What a receipt stands for.

        Raises:
            ReceiptMismatchError: nothing, or nothing any more.
        """
        held = self._held.get(message.receipt)
        if held is None:
            raise ReceiptMismatchError(f"the message {message.id!r} is no longer ours")
        return held

    def extend(self, message: QueueMessage, hide: float) -> str:
        """Hide a message for so long from now; the answer is its new receipt, the old one is void."""
        held = self.find(message)
        del self._held[message.receipt]
        held.until = clock.monotonic() + hide
        held.renewed()
        return self._enter(held)

    def drop(self, message: QueueMessage) -> None:
        """Hold it no longer: it was settled, or its lock is lost."""
        self._held.pop(message.receipt, None)

    @property
    def sequences(self) -> Collection[int | None]:
        """The sequence numbers of what is held: a look at the queue shows them too, though they are not to be had."""
        return {held.message.sequence_number for held in self._held.values()}

    def __len__(self) -> int:
        return len(self._held)

    async def close(self) -> None:
        """Hold nothing any more. What was not settled is left to the end of its lock."""
        self._held.clear()
        for task in [*self._working, *([self._keeping] if self._keeping else [])]:
            task.cancel()
            await asyncio.wait([task])

    async def _keep(self) -> None:
        while self._held:
            self._changed.clear()
            await self._wait(min(min(held.until, held.renew_at) for held in self._held.values()))
            now = clock.monotonic()
            for receipt, held in list(self._held.items()):
                if held.busy:
                    held.renew_at = max(held.renew_at, now + _SHORTEST_LOCK)
                    held.until = max(held.until, now + _SHORTEST_LOCK)
                elif held.until <= now:
                    del self._held[receipt]
                    self._work(self._give_back(held))
                elif held.renew_at <= now:
                    held.renew_at = now + _SHORTEST_LOCK
                    self._work(self._renew_lock(receipt, held))

    async def _wait(self, until: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), max(until - clock.monotonic(), 0))

    def _work(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _give_back(self, held: Held) -> None:
        """Its hiding is over; if this fails the lock ends by itself."""
        with suppress(StoreError):
            await self._abandon(held.message)

    async def _renew_lock(self, receipt: str, held: Held) -> None:
        try:
            await self._renew(held.message)
            held.renewed()
        except StoreUnavailableError:
            pass  # tried again soon: the lock has half of its length left
        except StoreError:
            self._held.pop(receipt, None)


def renewal(locked_until: datetime | None) -> float:
    """When to renew a lock: at half of what is left of it, however far our wall clock is from the broker's."""
    left = _SHORTEST_LOCK if locked_until is None else (locked_until - clock.now()).total_seconds()
    return clock.monotonic() + min(max(left, _SHORTEST_LOCK), _LONGEST_LOCK) / 2
