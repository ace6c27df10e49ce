"""The three stores and what joins them: `Stores.submit`.

Engines live in `embedded/`, `azure_storage/` and `service_bus/`; only `connect.py` knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rolehost.stores.blobs import BlobFacts, BlobPage, Blobs
from rolehost.stores.queues import DeadPage, Inbox, Queue, QueueCapabilities, QueueCounts, QueueLimits, QueueMessage
from rolehost.stores.tables import Fields, Note, Page, Row, Scalar, Table, TableLimits, TagCounts

__all__ = [
    "BlobFacts",
    "BlobPage",
    "Blobs",
    "DeadPage",
    "Fields",
    "Inbox",
    "NewRow",
    "Note",
    "Page",
    "Queue",
    "QueueCapabilities",
    "QueueCounts",
    "QueueLimits",
    "QueueMessage",
    "Row",
    "Scalar",
    "Stores",
    "Table",
    "TableLimits",
    "TagCounts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """A row that is submitted together with its first message.

    Args:
        table: the table's name.
        key: the row's key.
        fields: its fields.
        tag: its tag.
        queue: the queue that gets the message.
        message_id: the message's id.
        message: makes the message's body from the row's version, which exists only once the row is written.
        session: the message's session, where the queue has them.
    """

    table: str
    key: str
    fields: Fields
    tag: str
    queue: str
    message_id: str
    message: Callable[[str], str]
    session: str = ""


class Stores(Protocol):
    """An engine, or a combination of engines: queues, tables, blobs, and the one operation that needs two of them."""

    @property
    def blobs(self) -> Blobs:
        """The blobs."""

    def queue(self, name: str) -> Queue:
        """The queue with this name, made on first use."""

    async def queues(self) -> Sequence[str]:
        """Names of the queues that hold messages or dead letters, sorted; poison queues are not named by themselves.

        An engine that may not list queues (Service Bus without the right to manage) names those it has opened.
        """

    def table(self, name: str) -> Table:
        """The table with this name, made on first use."""

    async def submit(self, row: NewRow) -> str:
        """Write a row and put its message, so that the message can't be lost once the row is there.

        One transaction where the engine has one. Else the row goes with an `outbox` note, then the message is put, then
        the note goes: when the put fails the row still stands, and recovery puts the message again.

        Returns:
            The row's version. It is durable.

        Raises:
            AlreadyExistsError: the key is taken; nothing was written.
            StoreFullError: no space is left; nothing was written.
        """

    async def close(self) -> None:
        """Let go of files and connections; harmless when called twice."""
