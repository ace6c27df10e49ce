"""Settings to stores: the only module that imports an engine, and only the one that is named."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost.stores import Stores
from rolehost.stores.combined import CombinedStores
from rolehost.stores.costs import reporting
from rolehost.stores.nudges import NudgedStores

STORAGE = "ROLEHOST_STORAGE"
QUEUE = "ROLEHOST_QUEUE"
DATA = "ROLEHOST_DATA"
INSTANCE = "RoleInstanceID"
DEFAULT_DATA = ".rolehost"
EMBEDDED = "embedded"
OF_THE_STORAGE = "storage"


@asynccontextmanager
async def connect(environ: Mapping[str, str]) -> AsyncIterator[Stores]:
    """Open the stores that the environment names, for the length of a block.

    Args:
        environ: `ROLEHOST_STORAGE` is `embedded` (the default), a storage connection string,
            `UseDevelopmentStorage=true`, or the account's URL, which is used with the identity that the environment
            gives. `ROLEHOST_QUEUE` is `storage` (the default: the queues of the same engine), or a connection string or
            a namespace of Service Bus. `ROLEHOST_DATA` is the data directory of the embedded engine (default
            `.rolehost` in the working directory); processes that share one wake each other on other engines, too.

    Raises:
        StoreError: a setting is none of these, or the stores can't be opened.
    """
    stores = await _storage(environ)
    try:
        stores = await _with_queues(stores, environ)
        async with reporting(stores, environ.get(INSTANCE, "")):
            yield stores
    finally:
        await stores.close()


async def _storage(environ: Mapping[str, str]) -> Stores:
    storage = environ.get(STORAGE, "").strip() or EMBEDDED
    if storage == EMBEDDED:
        from rolehost.stores.embedded import EmbeddedStores  # noqa: PLC0415 - who uses another engine needs none of it

        return await EmbeddedStores.open(Path(environ.get(DATA, "") or DEFAULT_DATA))
    from rolehost.stores.azure_storage import AzureStores  # noqa: PLC0415 - the SDKs cost half a second and 30 MB

    return _nudged(await AzureStores.open(storage), environ)


def _nudged(stores: Stores, environ: Mapping[str, str]) -> Stores:
    """With bells in the data directory, if there is one: who submits on this machine wakes its workers."""
    data = Path(environ.get(DATA, "") or os.devnull)
    queue = environ.get(QUEUE, "").strip() or OF_THE_STORAGE
    if queue != OF_THE_STORAGE or not data.is_dir():
        return stores
    from rolehost.stores.embedded.bells import Bells  # noqa: PLC0415 - only here

    bells = data / "bells"
    try:
        bells.mkdir(mode=0o700, exist_ok=True)
    except OSError:  # a file system that is read only: then by polling alone
        return stores
    return NudgedStores(stores, Bells(bells))


async def _with_queues(stores: Stores, environ: Mapping[str, str]) -> Stores:
    queue = environ.get(QUEUE, "").strip() or OF_THE_STORAGE
    if queue == OF_THE_STORAGE:
        return stores
    from rolehost.stores.service_bus import ServiceBusQueues  # noqa: PLC0415 - the same

    return CombinedStores(stores, await ServiceBusQueues.open(queue))
