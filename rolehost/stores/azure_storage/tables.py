"""Rows and notes: the table contract on Azure Tables."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables.aio import TableClient

from rolehost import clock
from rolehost.errors import AlreadyExistsError, LimitExceededError, VersionMismatchError
from rolehost.stores import names
from rolehost.stores.azure_storage import entities, keys
from rolehost.stores.azure_storage.failures import ENTITY_FULL, GONE_SOON, code, status, translated
from rolehost.stores.azure_storage.listing import row_keys
from rolehost.stores.azure_storage.tallies import Tallies
from rolehost.stores.azure_storage.transactions import Operation, TransactionError, Transactions
from rolehost.stores.tables import Fields, Note, Page, Row, TableLimits, TagCounts

Answer = TypeVar("Answer")
Operations = list[Operation]

READS_AT_ONCE: Final = 32
_FEW: Final = 100
_SMALL_FOR: Final = 60.0
_LARGE_FOR: Final = 600.0
_ROWS: Final = f"RowKey gt '{keys.ROW}' and RowKey lt '{chr(ord(keys.ROW) + 1)}'"
_NO_TABLE: Final = "TableNotFound"
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_CHANGED: Final = 412
_CONDITIONS: Final = {_CONFLICT, _NOT_FOUND, _CHANGED}


class AzureTable:
    """A table.

    Args:
        name: its name.
        client: its client; the table is made when the first write finds none.
        transactions: what writes.
        tallies: what its rows add up to.
    """

    def __init__(self, name: str, client: TableClient, transactions: Transactions, tallies: Tallies) -> None:
        self._name = names.table_name(name)
        self._client = client
        self._transactions = transactions
        self._tallies = tallies
        self._what = f'the table "{name}"'
        self._large_until = self._small_until = 0.0
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    @property
    def name(self) -> str:
        """The table's name."""
        return self._name

    @property
    def limits(self) -> TableLimits:
        """What this engine can take."""
        return entities.LIMITS

    async def insert(self, key: str, fields: Fields, *, tag: str = "", notes: Sequence[str] = ()) -> str:
        """See `Table.insert`."""
        names.row_key(key)
        names.text(tag, "tag")
        made = self._entity(key, keys.of_row(key), entities.properties(fields) | {entities.TAG: tag})
        operations = [
            Operation(verb="POST", entity=made),
            Operation(verb="PATCH", entity=self._entity(key, keys.of_newest(key))),
        ]
        operations += self._listed(key, tag) + self._noted(key, notes) + self._tallies.counting(key, {tag: 1})
        try:
            with translated(self._what):
                etag = await self._made_on_first_use(lambda: self._transaction(operations))
        except _EntityFullError:
            raise LimitExceededError(f"the row {key!r} is over a limit of {self._what}") from None
        except _RowRefusedError as refused:
            if refused.status == _CONFLICT:
                raise AlreadyExistsError(f"there is a row {key!r} in {self._name} already") from None
            raise
        return entities.version(etag, tag)

    async def read(self, key: str) -> Row | None:
        """See `Table.read`."""
        row_key = keys.of_row(names.text(key, "key"))
        with translated(self._what):
            try:
                found = await self._client.get_entity(keys.partition(key), row_key)
            except ResourceNotFoundError:
                return None
        return entities.row(found, str(found.metadata["etag"]))

    async def write(
        self, key: str, version: str, changes: Fields, *, tag: str | None = None, notes: Sequence[str] = ()
    ) -> str:
        """See `Table.write`."""
        etag, before = entities.etag_and_tag(version)
        after = before if tag is None else names.text(tag, "tag")
        merged = entities.changed(changes) | ({} if after == before else {entities.TAG: after})
        made = self._entity(key, keys.of_row(names.text(key, "key")), merged)
        operations = [Operation(verb="PATCH", entity=made, etag=etag), *self._noted(key, notes)]
        lists: Operations = []
        if after != before:
            operations += self._listed(key, after) + self._tallies.counting(key, {before: -1, after: 1})
            lists = self._unlisted(key, before)
        with translated(self._what):
            try:
                written = await self._conditional(key, operations, lists)
            except _EntityFullError:
                whole = await self._whole(key, version, changes)
                whole[entities.TAG] = after
                operations[0] = Operation(verb="PUT", entity={**made, **whole}, etag=etag)
                written = await self._conditional(key, operations, lists, again=False)
        return entities.version(written, after)

    async def delete(self, key: str, version: str) -> None:
        """See `Table.delete`."""
        etag, tag = entities.etag_and_tag(version)
        row = self._entity(key, keys.of_row(names.text(key, "key")))
        lists = [Operation(verb="DELETE", entity=self._entity(key, keys.of_newest(key))), *self._unlisted(key, tag)]
        operations = [Operation(verb="DELETE", entity=row, etag=etag), *self._tallies.counting(key, {tag: -1})]
        with translated(self._what):
            await self._conditional(key, operations, lists, again=False)

    async def list(
        self, *, tag: str | None = None, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page:
        """See `Table.list`: one query of a small table; else sixteen, then the rows, however many there are."""
        names.page_size(limit)
        after = names.key_from_cursor(cursor)
        every = await self._few()
        if every is None:
            return await self._page(tag, limit, after, newest_first=newest_first)
        place = keys.units(after) if after is not None else None
        fitting = [
            row
            for row in sorted(every, key=lambda row: keys.units(row.key), reverse=newest_first)
            if (tag is None or row.tag == tag)
            and (place is None or (keys.units(row.key) < place if newest_first else keys.units(row.key) > place))
        ]
        return Page(fitting[:limit], names.to_cursor(fitting[limit - 1].key) if len(fitting) > limit else None)

    async def counts(self) -> TagCounts:
        """See `Table.counts`; the answer is some seconds old at most, as it says."""
        with translated(self._what):
            return await self._tallies.counts(self._few)

    async def notes(self, kind: str, *, limit: int = 1000, after: str = "") -> Sequence[Note]:
        """See `Table.notes`."""
        names.page_size(limit)
        prefix = keys.in_notes(kind)
        found = await self._row_keys(prefix, prefix + after, limit)
        return [Note(kind, row_key[len(prefix) :]) for row_key in found]

    async def drop_note(self, note: Note) -> None:
        """See `Table.drop_note`."""
        with translated(self._what):
            await self._client.delete_entity(keys.partition(note.key), keys.of_note(note.kind, note.key))

    async def _whole(self, key: str, version: str, changes: Fields) -> dict[str, Any]:
        """The row as it is to be, without what a merge leaves behind of fields that went away or became shorter."""
        row = await self.read(key)
        if row is None or row.version != version:
            raise VersionMismatchError(f"the row {key!r} in {self._name} was written by someone else")
        return entities.properties({**row.fields, **changes})

    async def _few(self) -> Sequence[Row] | None:
        """All rows of a small table, in one request; None of a larger one, which is looked at again after a while."""
        if clock.monotonic() < self._large_until:
            return None
        pages = self._client.query_entities(_ROWS, results_per_page=_FEW).by_page()
        with translated(self._what):
            try:
                page = await anext(pages, None)
                rows = [] if page is None else [entities.row(each, str(each.metadata["etag"])) async for each in page]
            except ResourceNotFoundError:  # no table, no rows
                rows = []
        if not getattr(pages, "continuation_token", None):
            self._small_until = clock.monotonic() + _SMALL_FOR
            return rows
        self._large_until, self._small_until = clock.monotonic() + _LARGE_FOR, 0.0
        return None

    async def _page(self, tag: str | None, limit: int, after: str | None, *, newest_first: bool) -> Page:
        """A page of a large table, by the keys of a list and the rows that they name."""
        every = keys.NEWEST if newest_first else keys.ROW
        prefix = every if tag is None else keys.in_tag(tag, newest_first=newest_first)
        begin = prefix if after is None else prefix + (keys.backwards(after) if newest_first else after)
        found = await self._row_keys(prefix, begin, limit + 1)
        plain = [row_key[len(prefix) :] for row_key in found]
        listed = [keys.forwards(key) for key in plain] if newest_first else plain
        rows = await asyncio.gather(*(self._read_one(key) for key in listed[:limit]))
        # One that has left the list since is left out.
        page = [row for row in rows if row is not None and (tag is None or row.tag == tag)]
        return Page(page, names.to_cursor(listed[limit - 1]) if len(found) > limit else None)

    async def _read_one(self, key: str) -> Row | None:
        async with self._reads:
            return await self.read(key)

    async def _row_keys(self, prefix: str, after: str, most: int) -> Sequence[str]:
        if clock.monotonic() >= max(self._small_until, self._large_until):
            await self._few()  # one request, which may save fifteen each time
        return await row_keys(
            self._client,
            prefix,
            after=after,
            most=most,
            order=keys.units,
            at_once=clock.monotonic() < self._small_until,
            what=self._what,
        )

    def _entity(self, key: str, row_key: str, made: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"PartitionKey": keys.partition(key), "RowKey": row_key, **(made or {})}

    def _listed(self, key: str, tag: str) -> Operations:
        return [Operation(verb="PATCH", entity=self._entity(key, row_key)) for row_key in keys.of_tag(tag, key)]

    def _unlisted(self, key: str, tag: str) -> Operations:
        return [Operation(verb="DELETE", entity=self._entity(key, row_key)) for row_key in keys.of_tag(tag, key)]

    def _noted(self, key: str, kinds: Sequence[str]) -> Operations:
        entities = (self._entity(key, keys.of_note(kind, key)) for kind in dict.fromkeys(kinds))
        return [Operation(verb="PATCH", entity=entity) for entity in entities]

    async def _conditional(self, key: str, operations: Operations, lists: Operations, *, again: bool = True) -> str:
        """A write under a version; the first operation is the row's."""
        try:
            return await self._transaction([*operations, *lists])
        except _NoTableError:
            raise VersionMismatchError(f"the row {key!r} in {self._name} is gone") from None
        except _RowRefusedError as refused:
            if refused.status == _CHANGED:
                raise VersionMismatchError(f"the row {key!r} in {self._name} was written by someone else") from None
            raise VersionMismatchError(f"the row {key!r} in {self._name} is gone") from None
        except _EntityFullError:
            if again:
                raise
            raise LimitExceededError(f"the row {key!r} is over a limit of {self._what}") from None
        except _CompanionGoneError:
            # Somebody deleted an entity of a list by hand: that must not hold up the row for ever.
            return await self._conditional(key, operations, [], again=again)

    async def _transaction(self, operations: Operations) -> str:
        """Do all or nothing; the answer is the row's ETag."""
        try:
            return await self._transactions.run(self._name, operations)
        except HttpResponseError as error:
            raise _refused(error) from None

    async def _made_on_first_use(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await call()
        except _NoTableError:
            with suppress(ResourceExistsError):  # another process was faster
                await self._client.create_table()
            return await call()


class _NoTableError(Exception):
    """The table is not there yet."""


class _EntityFullError(Exception):
    """The row would have too many properties, or be too large."""


class _CompanionGoneError(Exception):
    """The row is as expected, and an entity of its lists is not."""


class _RowRefusedError(Exception):
    """The condition on the row did not hold; carries the HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def _refused(error: HttpResponseError) -> Exception:
    answer, word = status(error), code(error)
    if word == _NO_TABLE:
        return _NoTableError()
    if word in ENTITY_FULL:
        return _EntityFullError()
    if answer not in _CONDITIONS or word in GONE_SOON:
        return error
    if isinstance(error, TransactionError) and error.index > 0:
        return _CompanionGoneError() if answer == _NOT_FOUND else error
    return _RowRefusedError(answer)
