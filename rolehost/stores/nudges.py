"""A nudge for stores that can't wait: who puts a message wakes the workers of the same data directory.

A worker that polls looks at an empty queue every half a minute in the end. Where the front end shares its machine
nobody has to wait for that. Elsewhere the next look finds the message: a nudge that is lost only costs time.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Protocol, runtime_checkable

from rolehost import clock
from rolehost.errors import StoreError
from rolehost.stores import Blobs, NewRow, Queue, Stores, Table
from rolehost.stores.combined import transactions
from rolehost.stores.queues import DeadPage, QueueCapabilities, QueueCounts, QueueLimits, QueueMessage


@runtime_checkable
class Nudged(Protocol):
    """A queue that can't wait, on a machine where somebody may tell of a message."""

    async def nudged(self, seconds: float) -> None:
        """Until somebody on this machine puts a message, or the time is over."""


class Listener(Protocol):
    """Somebody who waits."""

    async def wait(self, seconds: float) -> None:
        """Until the queue changes, or the time is over."""


class Bells(Protocol):
    """What wakes waiting processes of this machine."""

    def listen(self, queue: str) -> AbstractContextManager[Listener]:
        """Be woken when the queue changes, until the end of the block."""

    def ring(self, queues: AbstractSet[str]) -> None:
        """Tell every process that these queues changed."""

    def close(self) -> None:
        """Remove this process's bells."""


class NudgedQueue:
    """A queue with a bell beside it. Made by `NudgedStores.queue`.

    Args:
        queue: the queue.
        bells: the bells.
    """

    def __init__(self, queue: Queue, bells: Bells) -> None:
        self._queue = queue
        self._bells = bells
        self._listening = ExitStack()
        self._listener: Listener | None = None

    @property
    def name(self) -> str:
        """See `Queue.name`."""
        return self._queue.name

    @property
    def limits(self) -> QueueLimits:
        """See `Queue.limits`."""
        return self._queue.limits

    @property
    def capabilities(self) -> QueueCapabilities:
        """See `Queue.capabilities`."""
        return self._queue.capabilities

    async def nudged(self, seconds: float) -> None:
        """See `Nudged`."""
        if self._listener is None:
            # It stays: what comes during the next receive, too late for it, is heard when we wait again.
            with suppress(StoreError):  # no descriptor is left, or no room: then without
                self._listener = self._listening.enter_context(self._bells.listen(self.name))
        if self._listener is None:
            await clock.sleep(seconds)
        else:
            await self._listener.wait(seconds)

    def deaf(self) -> None:
        """Listen no longer."""
        self._listener = None
        self._listening.close()

    async def put(self, body: str, *, message_id: str, delay: float = 0.0, session: str = "") -> None:
        """See `Queue.put`."""
        await self._queue.put(body, message_id=message_id, delay=delay, session=session)
        self._ring(delay)

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        """See `Queue.receive`."""
        return await self._queue.receive(count, hide=hide, wait=wait)

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        """See `Queue.renew`."""
        return await self._queue.renew(message, hide=hide, body=body)

    async def complete(self, message: QueueMessage) -> None:
        """See `Queue.complete`."""
        await self._queue.complete(message)

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        """See `Queue.release`."""
        await self._queue.release(message, delay=delay, body=body)
        self._ring(delay)

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        """See `Queue.dead_letter`."""
        await self._queue.dead_letter(message, reason=reason, description=description)

    async def peek(self, count: int, *, dead: bool = False) -> Sequence[QueueMessage]:
        """See `Queue.peek`."""
        return await self._queue.peek(count, dead=dead)

    async def dead(self, limit: int, *, cursor: str | None = None, prefix: str = "") -> DeadPage:
        """See `Queue.dead`."""
        return await self._queue.dead(limit, cursor=cursor, prefix=prefix)

    async def remove_dead(self, message_id: str) -> bool:
        """See `Queue.remove_dead`."""
        return await self._queue.remove_dead(message_id)

    async def counts(self) -> QueueCounts:
        """See `Queue.counts`."""
        return await self._queue.counts()

    def _ring(self, delay: float) -> None:
        if not delay:
            self._bells.ring({self.name})


class NudgedStores:
    """Stores whose queues are told of by bells; closing them closes the stores.

    Args:
        stores: the stores.
        bells: the bells.
    """

    def __init__(self, stores: Stores, bells: Bells) -> None:
        self._stores = stores
        self._bells = bells
        self._opened: dict[str, NudgedQueue] = {}

    @property
    def blobs(self) -> Blobs:
        """The blobs."""
        return self._stores.blobs

    def queue(self, name: str) -> NudgedQueue:
        """The queue with this name."""
        if name not in self._opened:
            self._opened[name] = NudgedQueue(self._stores.queue(name), self._bells)
        return self._opened[name]

    async def queues(self) -> Sequence[str]:
        """See `Stores.queues`."""
        return await self._stores.queues()

    def table(self, name: str) -> Table:
        """The table with this name."""
        return self._stores.table(name)

    async def submit(self, row: NewRow) -> str:
        """See `Stores.submit`."""
        version = await self._stores.submit(row)
        self._bells.ring({row.queue})
        return version

    def transactions(self) -> dict[str, int]:
        """Requests sent since the stores were opened, by service."""
        return dict(transactions(self._stores))

    async def close(self) -> None:
        """Close the stores, and let go of the bells; harmless when called twice."""
        for queue in self._opened.values():
            queue.deaf()
        self._bells.close()
        await self._stores.close()
