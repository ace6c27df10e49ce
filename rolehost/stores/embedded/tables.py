"""Rows and notes: the table contract on SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from rolehost import clock
from rolehost.errors import AlreadyExistsError, InvalidParameterError, LimitExceededError, VersionMismatchError
from rolehost.stores import names
from rolehost.stores.embedded.reader import Reader
from rolehost.stores.embedded.writer import Transaction, Writer
from rolehost.stores.tables import Fields, Note, Page, Row, Scalar, TableLimits, TagCounts

LIMITS: Final = TableLimits(largest_field=256 * 1024, largest_row=1024 * 1024, fields_per_row=252)

# For the optimiser, one statement per shape: `tag IS NULL OR tag = ?` would scan the table.
_PAGE: Final = {
    (by_tag, newest_first): (
        f"SELECT key, version, tag, body FROM rows WHERE tbl = ?{' AND tag = ?' if by_tag else ''} "  # noqa: S608 - fixed parts
        f"AND key {'<' if newest_first else '>'} ? ORDER BY key {'DESC' if newest_first else 'ASC'} LIMIT ?"
    )
    for by_tag in (False, True)
    for newest_first in (False, True)
}
_TO_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_AFTER_ALL_KEYS: Final = "\U0010ffff\U0010ffff"


class EmbeddedTable:
    """A table on SQLite.

    Args:
        name: its name.
        writer: where writes go.
        reader: where reads go.
    """

    def __init__(self, name: str, writer: Writer, reader: Reader) -> None:
        self._name = names.table_name(name)
        self._writer = writer
        self._reader = reader

    @property
    def name(self) -> str:
        """The table's name."""
        return self._name

    @property
    def limits(self) -> TableLimits:
        """What this engine can take."""
        return LIMITS

    async def insert(self, key: str, fields: Fields, *, tag: str = "", notes: Sequence[str] = ()) -> str:
        """See `Table.insert`."""
        return await self._writer.do(
            lambda transaction: insert(transaction, self._name, key, fields, tag=tag, notes=notes)
        )

    async def read(self, key: str) -> Row | None:
        """See `Table.read`."""
        return await self._reader.do(lambda connection: _read(connection, self._name, key))

    async def write(
        self, key: str, version: str, changes: Fields, *, tag: str | None = None, notes: Sequence[str] = ()
    ) -> str:
        """See `Table.write`."""
        return await self._writer.do(
            lambda transaction: _write(transaction, self._name, key, version, changes, tag=tag, notes=notes)
        )

    async def delete(self, key: str, version: str) -> None:
        """See `Table.delete`."""
        await self._writer.do(lambda transaction: _delete(transaction, self._name, key, version))

    async def list(
        self, *, tag: str | None = None, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page:
        """See `Table.list`."""
        names.page_size(limit)
        after = names.key_from_cursor(cursor)
        if after is None:
            after = _AFTER_ALL_KEYS if newest_first else ""
        selection = (self._name, after) if tag is None else (self._name, tag, after)
        found = await self._reader.do(
            lambda connection: connection.execute(
                _PAGE[tag is not None, newest_first], (*selection, limit + 1)
            ).fetchall()
        )
        rows = [_row(*columns) for columns in found[:limit]]
        return Page(rows, names.to_cursor(rows[-1].key) if len(found) > limit else None)

    async def counts(self) -> TagCounts:
        """See `Table.counts`."""
        found = await self._reader.do(
            lambda connection: connection.execute(
                "SELECT tag, count FROM tallies WHERE tbl = ? AND count > 0", (self._name,)
            ).fetchall()
        )
        return TagCounts(dict(found), clock.now())

    async def notes(self, kind: str, *, limit: int = 1000, after: str = "") -> Sequence[Note]:
        """See `Table.notes`."""
        names.page_size(limit)
        found = await self._reader.do(
            lambda connection: connection.execute(
                "SELECT key FROM notes WHERE tbl = ? AND kind = ? AND key > ? ORDER BY key LIMIT ?",
                (self._name, kind, after, limit),
            ).fetchall()
        )
        return [Note(kind, key) for (key,) in found]

    async def drop_note(self, note: Note) -> None:
        """See `Table.drop_note`."""
        await self._writer.do(
            lambda transaction: (
                transaction.execute(
                    "DELETE FROM notes WHERE tbl = ? AND kind = ? AND key = ?", (self._name, note.kind, note.key)
                ).rowcount
            )
        )


def insert(
    transaction: Transaction, table: str, key: str, fields: Fields, *, tag: str, notes: Sequence[str] = ()
) -> str:
    """Add a row within a transaction; the answer is its version."""
    names.row_key(key)
    names.text(tag, "tag")
    body = _body({name: value for name, value in fields.items() if value is not None})
    version = transaction.number()
    added = transaction.execute(
        "INSERT INTO rows (tbl, key, version, tag, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (table, key, version, tag, body),
    )
    if not added.rowcount:
        raise AlreadyExistsError(f"there is a row {key!r} in {table} already")
    transaction.tally(table, tag, 1)
    _add_notes(transaction, table, key, notes)
    return str(version)


def _write(
    transaction: Transaction,
    table: str,
    key: str,
    version: str,
    changes: Fields,
    *,
    tag: str | None,
    notes: Sequence[str],
) -> str:
    found = _current(transaction, table, key, version)
    fields: dict[str, Scalar] = json.loads(found[3])
    fields |= changes
    body = _body({name: value for name, value in fields.items() if value is not None})
    number = transaction.number()
    if tag is None or tag == found[2]:
        transaction.execute("UPDATE rows SET version = ?, body = ? WHERE id = ?", (number, body, found[0]))
    else:
        names.text(tag, "tag")
        transaction.execute(
            "UPDATE rows SET version = ?, body = ?, tag = ? WHERE id = ?", (number, body, tag, found[0])
        )
        transaction.tally(table, found[2], -1)
        transaction.tally(table, tag, 1)
    _add_notes(transaction, table, key, notes)
    return str(number)


def _delete(transaction: Transaction, table: str, key: str, version: str) -> None:
    found = _current(transaction, table, key, version)
    transaction.execute("DELETE FROM rows WHERE id = ?", (found[0],))
    transaction.tally(table, found[2], -1)


def _current(transaction: Transaction, table: str, key: str, version: str) -> tuple[int, int, str, str]:
    """The row's id, version, tag and body, if it is the one that the caller knows."""
    found: tuple[int, int, str, str] | None = transaction.execute(
        "SELECT id, version, tag, body FROM rows WHERE tbl = ? AND key = ?", (table, names.text(key, "key"))
    ).fetchone()
    if found is None:
        raise VersionMismatchError(f"the row {key!r} in {table} is gone")
    if str(found[1]) != version:
        raise VersionMismatchError(f"the row {key!r} in {table} was written by someone else")
    return found


def _add_notes(transaction: Transaction, table: str, key: str, kinds: Sequence[str]) -> None:
    for kind in kinds:
        transaction.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?)", (table, kind, key))


def _body(fields: Fields) -> str:
    """The fields as JSON, if they are within the limits."""
    if len(fields) > LIMITS.fields_per_row:
        raise LimitExceededError(f"a row has up to {LIMITS.fields_per_row} fields")
    size = 0
    for name, value in fields.items():
        if not isinstance(value, str | int | float):  # not every caller is checked by mypy
            raise InvalidParameterError(f"the field {name!r} is no scalar", name)
        length = len(names.text(value, name).encode()) if isinstance(value, str) else 8
        if length > LIMITS.largest_field:
            raise LimitExceededError(f"the field {name!r} has {length} bytes; the most is {LIMITS.largest_field}")
        size += length + len(names.text(name, "name of a field").encode())
    if size > LIMITS.largest_row:
        raise LimitExceededError(f"the row has {size} bytes; the most is {LIMITS.largest_row}")
    try:
        return _TO_JSON(fields)
    except ValueError:
        raise InvalidParameterError("a field is not a finite number") from None


def _read(connection: sqlite3.Connection, table: str, key: str) -> Row | None:
    found = connection.execute(
        "SELECT key, version, tag, body FROM rows WHERE tbl = ? AND key = ?", (table, names.text(key, "key"))
    ).fetchone()
    return None if found is None else _row(*found)


def _row(key: str, version: int, tag: str, body: str) -> Row:
    return Row(key=key, version=str(version), tag=tag, fields=json.loads(body))
