"""Which levels are there, where a look at an empty queue is billed: one that was never used costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

from rolehost import clock
from rolehost.errors import StoreError
from rolehost.jobs.job import Priority
from rolehost.telemetry.transactions import POLLING, spent_on

if TYPE_CHECKING:
    from rolehost.stores import Queue, Stores

LIST_EVERY: Final = 600.0
"""Seconds between two lists of the queues, until all levels are there."""
LIST_BUSY: Final = 30.0
"""The same while there is work, which hides the bell of a submitter on this machine."""
LIST_AGAIN: Final = 10.0
"""The same where somebody on this machine has put a message that is in none of the levels that are known."""


class KnownLevels:
    """The normal level, and those whose queue is there: whoever puts the first message makes it, and it stays.

    Args:
        stores: which queues they have.
        queues: of all levels.
    """

    def __init__(self, stores: Stores, queues: Mapping[str, Queue]) -> None:
        self._stores = stores
        self._names = {queue.name: level for level, queue in queues.items()}
        self._levels: set[str] = {Priority.NORMAL}
        self._listed: float | None = None

    @property
    def levels(self) -> AbstractSet[str]:
        """The levels that are there, as far as is known."""
        return self._levels

    async def refresh(self, *, busy: bool) -> None:
        """List the queues, at the beginning and now and then."""
        if self._due(LIST_BUSY if busy else LIST_EVERY):
            await self._list()

    async def rung(self) -> Sequence[str]:
        """List the queues, for there may be another; the answer is those that were not known."""
        if not self._due(LIST_AGAIN):
            return ()
        before = set(self._levels)
        await self._list()
        return [level for level in self._names.values() if level in self._levels - before]

    def _due(self, every: float) -> bool:
        if len(self._levels) == len(self._names):
            return False
        return self._listed is None or clock.monotonic() - self._listed >= every

    async def _list(self) -> None:
        self._listed = clock.monotonic()
        try:
            with spent_on(POLLING):
                there = await self._stores.queues()
        except StoreError:  # who receives hears of it, and this can wait
            return
        self._levels |= {self._names[name] for name in there if name in self._names}
