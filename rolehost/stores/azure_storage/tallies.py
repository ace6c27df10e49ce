"""How many rows have which tag, without counting rows.

Every change of a tag leaves a difference beside the row, in the same transaction. Now and then the differences of a
partition are added to its sum and removed, in one transaction too: the sums are exact, and reading them costs sixteen
small queries however large the table is.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.data.tables.aio import TableClient

from rolehost import clock
from rolehost.stores.azure_storage.keys import PARTITIONS, partition
from rolehost.stores.azure_storage.transactions import Operation, Transactions
from rolehost.stores.tables import Row, TagCounts

_SUM: Final = "c!"
_RANGE: Final = "PartitionKey eq @partition and RowKey ge 'c' and RowKey lt 'd'"
_TAGS: Final = "tags"
_FRESH: Final = 5.0
"""Seconds that an answer is used again: many who look at once cost no more than one."""
_AT_ONCE: Final = 98  # a transaction has up to 100 operations
_ADD_UP_AFTER: Final = 2 * _AT_ONCE
"""Differences of our own in one partition, after which we add them up: three requests for so many."""


class Tallies:
    """The counts of one table.

    Args:
        client: the table's client.
        transactions: what writes.
    """

    def __init__(self, client: TableClient, transactions: Transactions) -> None:
        self._client = client
        self._transactions = transactions
        self._left = {name: random.randrange(_ADD_UP_AFTER) for name in PARTITIONS}  # noqa: S311 - spreads processes
        self._adding: dict[str, asyncio.Task[None]] = {}
        self._known: TagCounts | None = None
        self._known_at = 0.0
        self._looking = asyncio.Lock()

    def counting(self, key: str, differences: Mapping[str, int]) -> list[Operation]:
        """The operation that counts a change of a row, for the transaction that makes it."""
        where = partition(key)
        self._left[where] += 1
        if self._left[where] >= _ADD_UP_AFTER and where not in self._adding:
            self._left[where] = 0
            self._begin(where)
        told = json.dumps(dict(differences), ensure_ascii=False)
        entity = {"PartitionKey": where, "RowKey": f"c{secrets.token_hex(8)}", _TAGS: told}
        return [Operation(verb="POST", entity=entity)]

    async def counts(self, small: Callable[[], Awaitable[Sequence[Row] | None]]) -> TagCounts:
        """The counts; an answer is used for some seconds.

        Args:
            small: the table's rows, if it has but a few: they are counted then.
        """
        async with self._looking:
            if self._known is None or clock.monotonic() - self._known_at > _FRESH:
                moment, now = clock.now(), clock.monotonic()
                rows = await small()
                total = await self._total() if rows is None else Counter(row.tag for row in rows)
                self._known = TagCounts({tag: count for tag, count in total.items() if count > 0}, moment)
                self._known_at = now
            return self._known

    async def _total(self) -> Counter[str]:
        found = await asyncio.gather(*(self._partition(name) for name in PARTITIONS))
        total: Counter[str] = Counter()
        for name, entities in zip(PARTITIONS, found, strict=True):
            total.update(_added(entities))
            if len(entities) > _AT_ONCE and name not in self._adding:
                self._begin(name)
        return total

    async def close(self) -> None:
        """Leave the rest to the next process."""
        for task in self._adding.values():
            task.cancel()
        await asyncio.gather(*self._adding.values(), return_exceptions=True)

    def _begin(self, where: str) -> None:
        self._adding[where] = task = asyncio.create_task(self._add_up(where), name=f"tallies of {where}")
        task.add_done_callback(lambda _: self._adding.pop(where, None))

    async def _add_up(self, where: str) -> None:
        """Move the differences of a partition into its sum; whoever is second finds the sum changed, and leaves it."""
        with suppress(AzureError):
            found = await self._partition(where)
            sum_ = next((entity for entity in found if entity["RowKey"] == _SUM), None)
            differences = [entity for entity in found if entity["RowKey"] != _SUM]
            etag = sum_.metadata["etag"] if sum_ is not None else None
            total = Counter(_added([sum_] if sum_ is not None else []))
            while len(differences) >= _AT_ONCE // 2:
                some, differences = differences[:_AT_ONCE], differences[_AT_ONCE:]
                total.update(_added(some))
                etag = await self._replace(where, some, total, etag)

    async def _replace(self, where: str, some: Sequence[Any], total: Mapping[str, int], etag: str | None) -> str:
        told = json.dumps({tag: count for tag, count in total.items() if count}, ensure_ascii=False)
        entity = {"PartitionKey": where, "RowKey": _SUM, _TAGS: told}
        first = Operation(verb="POST" if etag is None else "PUT", entity=entity, etag=etag)
        others = (Operation(verb="DELETE", entity=each) for each in some)
        return await self._transactions.run(self._client.table_name, [first, *others])

    async def _partition(self, where: str) -> Sequence[Any]:
        try:
            return [entity async for entity in self._client.query_entities(_RANGE, parameters={"partition": where})]
        except ResourceNotFoundError:  # no table, no rows
            return ()


def _added(entities: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for entity in entities:
        total.update(json.loads(entity[_TAGS]))  # Counter.update adds, also what is negative
    return total
