"""Settings to stores: the only module that imports an engine, and only the one that is named."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost.stores import Stores
from rolehost.stores.combined import CombinedStores
from rolehost.stores.costs import reporting
from rolehost.stores.nudges import NudgedStores
from rolehost.stores.proofs import TABLE as PROVED_TABLE
from rolehost.stores.proofs import Proof, Proved, no_rights, own_name, prove_blobs, prove_queue, prove_table

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


async def prove(environ: Mapping[str, str], queues: Sequence[str], *, spare: Collection[str] = ()) -> Proved:
    """Try all that a service does with the stores that the environment names, on names that are removed.

    Args:
        environ: see `connect`.
        queues: the queues of the service.
        spare: those of them that it can do without.

    Raises:
        StoreError: a setting can't be read.
    """
    storage = environ.get(STORAGE, "").strip() or EMBEDDED
    queue = environ.get(QUEUE, "").strip() or OF_THE_STORAGE
    here, proved = queue == OF_THE_STORAGE, Proved()
    if storage == EMBEDDED:
        proved.add(await _prove_embedded(environ, queues=here))
    else:
        from rolehost.stores.azure_storage import proofs as of_storage  # noqa: PLC0415 - as above

        proved.add(await of_storage.prove(storage, queues=here))
    if not here:
        from rolehost.stores.service_bus import proofs as of_service_bus  # noqa: PLC0415 - as above

        proved.add(await of_service_bus.prove(queue, queues, spare=spare))
    return proved


async def _prove_embedded(environ: Mapping[str, str], *, queues: bool) -> Proved:
    """In the data directory; one that isn't there yet is made at the first start, and not by looking."""
    if missing := _missing(Path(environ.get(DATA, "") or DEFAULT_DATA)):
        return Proved(proofs=[missing])
    stores, proved = await _storage({**environ, STORAGE: EMBEDDED}), Proved()
    try:
        if queues:
            proved.add(await prove_queue(stores.queue(own_name()), no_rights))
        proved.add(await prove_table(stores.table(PROVED_TABLE), no_rights))
        proved.add(await prove_blobs(stores.blobs, no_rights))
    finally:
        await stores.close()
    return proved


def _missing(data: Path) -> Proof | None:
    """Of a data directory that isn't there: whether it can be made."""
    data = data.absolute()
    if data.is_dir():
        return None
    folder = next(each for each in data.parents if each.exists())
    problem = "" if os.access(folder, os.W_OK | os.X_OK) else f"it is not there, and {folder} can't be written to"
    return Proof(resource=f"data directory {data}", action="make", problem=problem)
