"""The engine as a whole: one storage account, with one client for each of its services."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Self

from azure.data.tables.aio import TableServiceClient
from azure.identity.aio import DefaultAzureCredential
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from rolehost.stores import NewRow, names, outbox
from rolehost.stores.azure_storage.account import Account
from rolehost.stores.azure_storage.blobs import LARGEST_SINGLE, PIECE, AzureBlobs
from rolehost.stores.azure_storage.poison import TABLE as TRACES
from rolehost.stores.azure_storage.queues import AzureQueue, AzureQueues
from rolehost.stores.azure_storage.tables import AzureTable
from rolehost.stores.azure_storage.tallies import Tallies
from rolehost.stores.azure_storage.transactions import Transactions
from rolehost.stores.azure_storage.transport import MeteredTransport
from rolehost.stores.azure_storage.wire import Bodies

BLOBS: Final = "rolehost"
MESSAGES: Final = "rolehost-messages"
API_VERSION: Final = "2024-11-04"
"""Of queues and blobs: all that is used here, and an emulator of some age knows it too."""


class AzureStores:
    """All three stores in one storage account. Made by `AzureStores.open`.

    Args:
        account: the account.
    """

    def __init__(self, account: Account) -> None:
        self._requests: Counter[str] = Counter(blob=0, queue=0, table=0)
        self._closing = AsyncExitStack()
        credential = account.credential()
        if isinstance(credential, DefaultAzureCredential):
            self._closing.push_async_callback(credential.close)
        options = self._options("table", account.table)
        self._tables = TableServiceClient(account.table, credential=credential, **options)
        self._transactions = Transactions(account.table, credential, options["transport"])
        options = self._options("queue", account.queue, API_VERSION)
        queues = QueueServiceClient(account.queue, credential=credential, **options)
        blobs = BlobServiceClient(
            account.blob,
            credential=credential,
            max_single_put_size=LARGEST_SINGLE,
            max_single_get_size=PIECE,
            max_chunk_get_size=PIECE,
            **self._options("blob", account.blob, API_VERSION),
        )
        for client in (self._tables, queues, blobs):
            self._closing.push_async_callback(client.close)
        self._blobs = AzureBlobs(blobs.get_container_client(BLOBS))
        bodies = Bodies(AzureBlobs(blobs.get_container_client(MESSAGES)))
        self._queues = AzureQueues(queues, self._tables.get_table_client(TRACES), bodies)
        self._closing.push_async_callback(self._queues.close)
        self._opened: dict[str, AzureTable] = {}

    def _options(self, service: str, url: str, api_version: str | None = None) -> dict[str, Any]:
        """No retries below us: who asks knows what a lost answer means, and how long its lease lets it wait."""
        versioned = {"api_version": api_version} if api_version else {}
        return {"transport": MeteredTransport(service, self._requests, url), "retry_total": 0, **versioned}

    @classmethod
    async def open(cls, connection: str) -> Self:
        """Open an account; nothing is sent before the first use.

        Args:
            connection: a connection string, `UseDevelopmentStorage=true`, or the account's URL for an identity.

        Raises:
            StoreError: it is none of these.
        """
        return cls(Account.parse(connection))

    @property
    def blobs(self) -> AzureBlobs:
        """The blobs."""
        return self._blobs

    def queue(self, name: str) -> AzureQueue:
        """The queue with this name, made on first use."""
        return self._queues.queue(name)

    async def queues(self) -> Sequence[str]:
        """See `Stores.queues`."""
        return await self._queues.names()

    def table(self, name: str) -> AzureTable:
        """The table with this name, made on first use."""
        if name not in self._opened:
            client = self._tables.get_table_client(names.table_name(name))
            tallies = Tallies(client, self._transactions)
            self._opened[name] = AzureTable(name, client, self._transactions, tallies)
            self._closing.push_async_callback(tallies.close)
        return self._opened[name]

    async def submit(self, row: NewRow) -> str:
        """See `Stores.submit`: row and outbox note in one transaction, then the message."""
        return await outbox.submit(self.table(row.table), self.queue(row.queue), row)

    def transactions(self) -> Mapping[str, int]:
        """Requests sent since the stores were opened, by service: what Azure bills."""
        return dict(self._requests)

    async def close(self) -> None:
        """Finish what was begun, and let go of connections; harmless when called twice."""
        await asyncio.shield(self._closing.aclose())
