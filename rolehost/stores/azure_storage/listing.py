"""Lists over the partitions: each is read in order, a page at a time, and the heads are merged."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableClient

from rolehost.stores.azure_storage.failures import translated
from rolehost.stores.azure_storage.keys import PARTITIONS

_LARGEST_PAGE: Final = 1000
_RANGE: Final = "RowKey gt @after and RowKey lt @end"


class _Stream:
    """The row keys of one partition in a range, in order."""

    def __init__(self, client: TableClient, partition: str, after: str, end: str, size: int) -> None:
        self._pages = client.query_entities(
            f"PartitionKey eq '{partition}' and {_RANGE}",
            parameters={"after": after, "end": end},
            select=["RowKey"],
            results_per_page=size,
        ).by_page()
        self._found: deque[str] = deque()
        self._over = False

    async def fill(self) -> None:
        """Have a head, unless the partition has no more; a page may be empty and not the last."""
        while not self._found and not self._over:
            page = await anext(self._pages, None)
            if page is None:
                self._over = True
            else:
                self._found.extend([str(entity["RowKey"]) async for entity in page])

    def take(self) -> str | None:
        """The head, if there is one."""
        return self._found.popleft() if self._found else None


async def row_keys(
    client: TableClient,
    prefix: str,
    *,
    after: str,
    most: int,
    order: Callable[[str], Any],
    at_once: bool,
    what: str,
) -> Sequence[str]:
    """The first row keys with a prefix, from all partitions.

    Args:
        client: the table.
        prefix: what they begin with.
        after: the row key that they come after; the prefix itself for the beginning.
        most: how many at most.
        order: the sort key of a row key.
        at_once: the table is known to be small: one query goes through all of it.
        what: the table, for people.
    """
    size = min(_LARGEST_PAGE, most // len(PARTITIONS) * 3 // 2 + 6)
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    with translated(what):
        if at_once:
            return sorted(await _all(client, after, end), key=order)[:most]
        streams = [_Stream(client, partition, after, end, size) for partition in PARTITIONS]
        try:
            await asyncio.gather(*(stream.fill() for stream in streams))
            return [row_key async for row_key in _merged(streams, most, order)]
        except ResourceNotFoundError:  # no table, no rows
            return ()


async def _all(client: TableClient, after: str, end: str) -> Sequence[str]:
    found = client.query_entities(_RANGE, parameters={"after": after, "end": end}, select=["RowKey"])
    try:
        return [str(entity["RowKey"]) async for entity in found]
    except ResourceNotFoundError:  # no table, no rows
        return ()


async def _merged(streams: Sequence[_Stream], most: int, order: Callable[[str], Any]) -> AsyncIterator[str]:
    heads: list[tuple[Any, int, str]] = []

    async def advance(number: int) -> None:
        await streams[number].fill()
        row_key = streams[number].take()
        if row_key is not None:
            heapq.heappush(heads, (order(row_key), number, row_key))

    for number in range(len(streams)):
        await advance(number)
    for _ in range(most):
        if not heads:
            return
        _, number, row_key = heapq.heappop(heads)
        yield row_key
        await advance(number)
