"""The table contract: rows that are written only under the version that was read, with notes beside them.

A row has a key, scalar fields, one `tag` to list by (a job's state) and a version. Every write names the version it
expects: there is no other way to write. A *note* is a small companion entity in the row's partition, written and
dropped with it (the outbox, the debts). `tests/conformance/test_tables.py` holds every engine to this page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

Scalar: TypeAlias = "str | int | float | bool | None"
Fields: TypeAlias = "Mapping[str, Scalar]"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLimits:
    """What an engine can take.

    Args:
        largest_field: bytes of one text field in UTF-8.
        largest_row: bytes of all fields together.
        fields_per_row: how many fields a row may have.
    """

    largest_field: int
    largest_row: int
    fields_per_row: int


@dataclass(frozen=True, slots=True)
class Note:
    """A companion of the row with the same key: `Note("outbox", key)`."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as it was read.

    Args:
        key: unique in its table; keys sort as text.
        version: opaque; never used again for this key, also after a deletion.
        tag: what the row is listed by.
        fields: scalars by name; a field that was set to None is absent.
    """

    key: str
    version: str
    tag: str = ""
    fields: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and where to go on; `cursor` is None at the end."""

    rows: Sequence[Row]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class TagCounts:
    """How many rows there are by tag, and when that was so."""

    by_tag: Mapping[str, int]
    as_of: datetime


class Table(Protocol):
    """Rows under optimistic concurrency."""

    @property
    def name(self) -> str:
        """The table's name."""

    @property
    def limits(self) -> TableLimits:
        """What this engine can take."""

    async def insert(self, key: str, fields: Fields, *, tag: str = "", notes: Sequence[str] = ()) -> str:
        r"""Add a row, with a note of each kind in `notes`, in one transaction.

        Args:
            key: 1 to 512 characters: no control characters and none of `/`, `\`, `#`, `?` (Azure Tables' rule).
            fields: finite numbers, booleans and texts; None is the same as absent.
            tag: what the row is listed by.
            notes: kinds of notes.

        Returns:
            The row's version.

        Raises:
            AlreadyExistsError: the key is taken.
            InvalidParameterError: the key or a value is none that a row may have.
            LimitExceededError: the row is over a limit.
        """

    async def read(self, key: str) -> Row | None:
        """The row as it is now."""

    async def write(
        self, key: str, version: str, changes: Fields, *, tag: str | None = None, notes: Sequence[str] = ()
    ) -> str:
        """Merge `changes` into the row if its version is still `version`; a field set to None goes away.

        Args:
            key: the row's key.
            version: the version that was read or written last.
            changes: the fields that change; the others stay.
            tag: the row's new tag, if it changes.
            notes: kinds of notes that are written with the row, in the same transaction.

        Returns:
            The row's new version.

        Raises:
            VersionMismatchError: the row has another version, or is gone; nothing was written.
        """

    async def delete(self, key: str, version: str) -> None:
        """Remove the row if its version is still `version`. Its notes stay.

        Raises:
            VersionMismatchError: the row has another version, or is gone.
        """

    async def list(
        self, *, tag: str | None = None, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page:
        """Rows by key, one page at a time; a cursor stays good while rows come and go.

        Raises:
            InvalidParameterError: the cursor is not one of ours.
        """

    async def counts(self) -> TagCounts:
        """How many rows there are by tag; its cost does not follow the table's size."""

    async def notes(self, kind: str, *, limit: int = 1000, after: str = "") -> Sequence[Note]:
        """Notes of a kind, oldest key first, beyond the key `after`; the cost follows the notes, not the table."""

    async def drop_note(self, note: Note) -> None:
        """Remove a note; not an error if it is gone."""
