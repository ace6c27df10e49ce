"""The engine as a whole: one data directory, opened by this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from rolehost.errors import StoreUnavailableError
from rolehost.failpoints import crossed
from rolehost.stores import NewRow
from rolehost.stores.embedded import files, queues, schema, tables
from rolehost.stores.embedded.bells import Bells
from rolehost.stores.embedded.blobs import FileBlobs
from rolehost.stores.embedded.layout import Layout
from rolehost.stores.embedded.queues import EmbeddedQueue
from rolehost.stores.embedded.reader import Reader
from rolehost.stores.embedded.tables import EmbeddedTable
from rolehost.stores.embedded.writer import Transaction, Writer
from rolehost.stores.names import queue_name, table_name


class EmbeddedStores:
    """All three stores in one data directory. Made by `EmbeddedStores.open`.

    Args:
        layout: the data directory, prepared.
    """

    def __init__(self, layout: Layout) -> None:
        self._bells = Bells(layout.bells)
        self._blobs = FileBlobs(layout)
        self._writer = Writer(layout, layout.lock(), self._bells.ring)
        self._reader = Reader(layout)
        self._writer.start()
        self._reader.start()

    @classmethod
    async def open(cls, directory: Path) -> Self:
        """Open a data directory, made if it is missing; any number of processes may have it open.

        Raises:
            StoreError: a newer release wrote it, or it is damaged.
            StoreUnavailableError: it can't be made or read.
        """
        return await asyncio.to_thread(cls._open, directory)

    @classmethod
    def _open(cls, directory: Path) -> Self:
        layout = Layout(directory.absolute())
        try:
            layout.prepare()
            lock = layout.lock()
            try:
                schema.prepare(layout, lock)
            finally:
                lock.close()
            return cls(layout)
        except OSError as error:
            raise files.translated(error) from error

    @property
    def blobs(self) -> FileBlobs:
        """The blobs."""
        return self._blobs

    def queue(self, name: str) -> EmbeddedQueue:
        """The queue with this name, made on first use."""
        return EmbeddedQueue(name, self._writer, self._reader, self._bells)

    async def queues(self) -> Sequence[str]:
        """See `Stores.queues`."""
        return await self._reader.do(queues.names_of_queues)

    def table(self, name: str) -> EmbeddedTable:
        """The table with this name, made on first use."""
        return EmbeddedTable(name, self._writer, self._reader)

    async def submit(self, row: NewRow) -> str:
        """See `Stores.submit`: one transaction, so there is nothing for an outbox to remember."""
        return await self._writer.do(lambda transaction: _submit(transaction, row))

    async def close(self) -> None:
        """Finish what was begun, and let go of files and threads; harmless when called twice."""
        with suppress(StoreUnavailableError):
            # Answers come in order: a receive that was cancelled has been put back once this one is here.
            await self._writer.do(lambda _: None, durable=False)
        await asyncio.to_thread(self._close_threads)
        self._bells.close()  # who still waits looks once more, and hears that the store is closed

    def _close_threads(self) -> None:
        self._writer.close()
        self._reader.close()
        self._blobs.close()


def _submit(transaction: Transaction, row: NewRow) -> str:
    version = tables.insert(transaction, table_name(row.table), row.key, row.fields, tag=row.tag)
    crossed("after-row", row.key)
    queues.put(transaction, queue_name(row.queue), row.message(version), row.message_id)
    return version
