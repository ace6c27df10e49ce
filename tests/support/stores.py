"""The engines that the conformance suites hold to the contracts."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rolehost.stores import Queue, QueueMessage, Stores
from rolehost.stores.connect import connect
from rolehost.testing import Faults, FaultyStores
from support import azurite
from support.service_bus import under_test as service_bus

REAL_ACCOUNT = "ROLEHOST_TEST_STORAGE"
"""Where it is set, to a connection string or an account's address, the suites run on a real storage account, too. What
they make there has names that nothing else has, and stays: use an account that was made for it."""
PROCESS = Path(__file__).parent.parent / "conformance" / "store_process.py"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine under test.

    Args:
        name: the test's parameter.
        environ: what `connect` needs, given a directory of the test's own.
        wrap: what is put around the stores.
        examples: how many sequences of calls the state machine tries: fewer where each call is a request.
    """

    name: str
    environ: Callable[[Path], Mapping[str, str]]
    wrap: Callable[[Stores], Stores] = lambda stores: stores
    examples: int = 60

    @asynccontextmanager
    async def open(self, directory: Path) -> AsyncIterator[Stores]:
        """The stores; opened again with the same directory they hold the same data."""
        async with connect(self.environ(directory)) as stores:
            yield self.wrap(stores)


def _embedded(directory: Path) -> Mapping[str, str]:
    return {"ROLEHOST_STORAGE": "embedded", "ROLEHOST_DATA": str(directory / "data")}


def _azurite(directory: Path) -> Mapping[str, str]:
    # One account for all: names are unique, and a container that is there already need not be made.
    return {"ROLEHOST_STORAGE": azurite.shared().connection(), "ROLEHOST_DATA": str(directory / "data")}


def _service_bus(directory: Path) -> Mapping[str, str]:
    return {**_embedded(directory), "ROLEHOST_QUEUE": service_bus.connection()}


def _real_account(directory: Path) -> Mapping[str, str]:
    return {"ROLEHOST_STORAGE": os.environ[REAL_ACCOUNT], "ROLEHOST_DATA": str(directory / "data")}


# An engine more is a line more.
ENGINES: Sequence[Engine] = (
    Engine("embedded", _embedded),
    Engine("embedded-faulty", _embedded, lambda stores: FaultyStores(stores, Faults())),
    Engine("azurite", _azurite, examples=12),
    Engine("service_bus", _service_bus, examples=4),
    *([Engine("azure_storage", _real_account, examples=2)] if os.environ.get(REAL_ACCOUNT) else []),
)


def unused(kind: str) -> str:
    """A name that no other test uses: some engines are shared by all tests."""
    return f"{kind}{secrets.token_hex(6)}"


async def receive(queue: Queue, count: int = 1, *, hide: float = 30.0, within: float = 10.0) -> Sequence[QueueMessage]:
    """Receive, by waiting or by polling as the engine is able to; fails when nothing comes in time."""
    deadline = time.monotonic() + within
    while True:
        left = max(deadline - time.monotonic(), 0)
        messages = await queue.receive(count, hide=hide, wait=left if queue.capabilities.waits else 0)
        if messages:
            return messages
        assert left, "no message came"
        await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    """Wait for what no event tells of."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.001)


@asynccontextmanager
async def process(
    environ: Mapping[str, str], *arguments: str, errors: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that uses the same stores: see `conformance/store_process.py`; `errors` pipes its stderr."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(PROCESS),
        *arguments,
        env={**environ, "PYTHONPATH": ":".join(sys.path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if errors else None,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()
