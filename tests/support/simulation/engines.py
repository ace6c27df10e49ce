"""Engines over the stores in memory: what is one call to an engine with transactions is several to others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from rolehost.stores import Queue, QueueMessage
from rolehost.testing import Faults, FaultyStores
from support.simulation.bus import BusQueue, successor
from support.simulation.memory import MemoryQueue, MemoryStores
from support.simulation.monitors import LEASE

ENGINES = ("embedded", "azure_storage", "service_bus")
MOST_DELIVERIES = (2, 3, 10)


def queue_of(engine: str, name: str, chance: random.Random, *, clean: bool) -> MemoryQueue:
    """The queue that an engine has."""
    if engine == "service_bus":
        return BusQueue(name, chance, lock=LEASE, most_deliveries=chance.choice(MOST_DELIVERIES))
    doubles = 0.0 if engine == "embedded" or clean else 0.03
    return MemoryQueue(name, chance, waits=engine == "embedded", doubles=doubles)


def stores_of(engine: str, memory: MemoryStores, faults: Faults, owner: object, drops: float) -> FaultyStores:
    """The stores as one process has them.

    Args:
        engine: one of `ENGINES`.
        memory: what all processes share.
        faults: what may happen to its calls.
        owner: the process.
        drops: how often its connection is lost, where it has one.
    """
    match engine:
        case "embedded":
            return FaultyStores(memory, faults)
        case "azure_storage":
            return StorageStores(memory, faults)
        case _:
            return BusStores(memory, faults, owner, drops)


class StorageStores(FaultyStores):
    """An engine without transactions over table and queue: three calls to submit, two to dead-letter."""

    def __init__(self, inner: MemoryStores, faults: Faults) -> None:
        super().__init__(inner, faults, outbox=True)
        self._memory = inner
        self._ills = faults

    def queue(self, name: str) -> Queue:
        return _StorageQueue(super().queue(name), self._memory.queue(name), self._ills)


class _StorageQueue:
    def __init__(self, faulty: Queue, memory: MemoryQueue, faults: Faults) -> None:
        self._faulty = faulty
        self._memory = memory
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._faulty, name)

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        await self._faults.around("queue.put_dead", lambda: self._memory.put_dead(message, reason, description))
        await self._faulty.complete(message)


class BusStores(FaultyStores):
    """Service Bus beside tables and blobs: a release is a new message, and then the end of the old one."""

    def __init__(self, inner: MemoryStores, faults: Faults, owner: object, drops: float) -> None:
        super().__init__(inner, faults, outbox=True)
        self._memory = inner
        self._connection = faults, owner, drops

    def queue(self, name: str) -> Queue:
        memory = self._memory.queue(name)
        assert isinstance(memory, BusQueue)
        return _Connected(super().queue(name), memory, *self._connection)


class _Connected:
    """A queue over one process's connection, which may be lost at any time."""

    def __init__(self, faulty: Queue, memory: BusQueue, faults: Faults, owner: object, drops: float) -> None:
        self._faulty = faulty
        self._memory = memory
        self._faults = faults
        self._owner = owner
        self._drops = drops

    def __getattr__(self, name: str) -> Any:
        return getattr(self._faulty, name)

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        del hide
        if self._memory.chance.random() < self._drops:
            self._memory.unlock(self._owner)
        return await self._faults.around("queue.receive", lambda: self._memory.receive_for(self._owner, count, wait))

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        if not delay and body is None:
            await self._faults.around("queue.abandon", lambda: self._memory.abandon(message))
            return
        await self._faulty.put(body or message.body, message_id=successor(message.id), delay=delay)
        await self._faulty.complete(message)
