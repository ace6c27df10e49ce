"""The Azure Storage engine: queues, tables and blobs of one account, for as many machines as are needed."""

from __future__ import annotations

from rolehost.stores.azure_storage.engine import AzureStores

__all__ = ["AzureStores"]
