"""Settings to stores: the only module that imports an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost.errors import StoreError
from rolehost.stores import Stores
from rolehost.stores.embedded import EmbeddedStores

STORAGE = "ROLEHOST_STORAGE"
DATA = "ROLEHOST_DATA"
DEFAULT_DATA = ".rolehost"


@asynccontextmanager
async def connect(environ: Mapping[str, str]) -> AsyncIterator[Stores]:
    """Open the stores that the environment names, for the length of a block.

    Args:
        environ: `ROLEHOST_STORAGE` names the engine (default `embedded`), `ROLEHOST_DATA` the data directory of the
            embedded engine (default `.rolehost` in the working directory).

    Raises:
        StoreError: the engine is unknown, or the stores can't be opened.
    """
    engine = environ.get(STORAGE, "") or "embedded"
    if engine != "embedded":
        raise StoreError(f"{STORAGE} is {engine!r}, but the only engine that this release has is 'embedded'")
    stores = await EmbeddedStores.open(Path(environ.get(DATA, "") or DEFAULT_DATA))
    try:
        yield stores
    finally:
        await stores.close()
