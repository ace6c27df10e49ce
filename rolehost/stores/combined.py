"""Queues of one engine with the tables and blobs of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from rolehost.stores import Blobs, NewRow, Queue, Stores, Table, outbox


class Queues(Protocol):
    """An engine that has queues and nothing else."""

    def queue(self, name: str) -> Queue:
        """The queue with this name."""

    async def queues(self) -> Sequence[str]:
        """See `Stores.queues`."""

    async def close(self) -> None:
        """Let go of connections; harmless when called twice."""


@runtime_checkable
class Metered(Protocol):
    """Stores that count the requests which they send, because each is billed."""

    def transactions(self) -> Mapping[str, int]:
        """Requests so far, by service."""


class CombinedStores:
    """Stores put together from two engines; closing them closes both.

    Args:
        storage: whose tables and blobs are used.
        queues: whose queues are used.
    """

    def __init__(self, storage: Stores, queues: Queues) -> None:
        self._storage = storage
        self._queues = queues

    @property
    def blobs(self) -> Blobs:
        """The blobs."""
        return self._storage.blobs

    def queue(self, name: str) -> Queue:
        """The queue with this name, made on first use where the broker lets us."""
        return self._queues.queue(name)

    async def queues(self) -> Sequence[str]:
        """See `Stores.queues`."""
        return await self._queues.queues()

    def table(self, name: str) -> Table:
        """The table with this name, made on first use."""
        return self._storage.table(name)

    async def submit(self, row: NewRow) -> str:
        """See `Stores.submit`: no transaction spans two engines, so that the row goes with an outbox note."""
        return await outbox.submit(self.table(row.table), self.queue(row.queue), row)

    def transactions(self) -> Mapping[str, int]:
        """Requests sent since the stores were opened, by service; empty where they cost nothing."""
        return transactions(self._storage)

    async def close(self) -> None:
        """Close both, the storage also when the queues can't be closed."""
        try:
            await self._queues.close()
        finally:
            await self._storage.close()


def transactions(stores: object) -> Mapping[str, int]:
    """Requests that stores have sent, by service; empty where requests cost nothing."""
    return stores.transactions() if isinstance(stores, Metered) else {}
