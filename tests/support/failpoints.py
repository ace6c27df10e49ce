"""Strikes a process at named points: loaded by a role under test, never by the package.

    ROLEHOST_FAILPOINT=after-claim:kill             at the first crossing, and so on:
    ROLEHOST_FAILPOINT=after-claim:error:2          at the second one
    ROLEHOST_FAILPOINT=after-claim:error,after-claim:lost,after-claim:delay

`kill` ends the process. `error` fails the next call to the stores, unapplied; `lost` applies it and loses its answer;
`delay` stands still for three leases. In a thread, where a store or the file system works, `error` is the system's own.
Each job is struck once. The file named by `ROLEHOST_STRUCK` gets a line for each strike: point, action, job.
"""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rolehost import failpoints
from rolehost.errors import StoreUnavailableError
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from rolehost.testing import Faults, FaultyStores
from rolehost.workers import queue_worker

LEASE = 2.0
DELAY = 3 * LEASE
VARIABLE = "ROLEHOST_FAILPOINT"
STRUCK = "ROLEHOST_STRUCK"
FIRST = "after-receive"

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Fate:
    """What becomes of the next call to the stores on this way."""

    action: str = ""

    def take(self, action: str) -> bool:
        """Whether it is this; then it is done with."""
        if self.action != action:
            return False
        self.action = ""
        return True


_fate: ContextVar[Fate] = ContextVar("fate")
_of_threads = Fate()
"""A point in a thread belongs to the call that is on its way."""


@dataclass(slots=True)
class _Order:
    point: str
    action: str
    crossings: int

    @classmethod
    def of(cls, text: str) -> _Order:
        point, action, *count = text.split(":")
        return cls(point, action, int(count[0]) if count else 1)


class Strikes:
    """Carries out orders, each once.

    Args:
        orders: as in the variable.
        record: where a line is written for each strike.
    """

    def __init__(self, orders: str, record: Path) -> None:
        self._orders = [_Order.of(text) for text in orders.split(",") if text]
        self._record = record
        self._struck: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, point: str, job: str) -> float:
        """See `rolehost.failpoints.Strike`."""
        if point == FIRST and _on_loop():
            _fate.set(Fate())  # one for all that the message leads to, tasks of its own included
        with self._lock:
            order = next((order for order in self._orders if order.point == point), None)
            if order is None or job in self._struck:
                return 0.0
            order.crossings -= 1
            if order.crossings > 0:
                return 0.0
            self._orders.remove(order)
            self._struck.add(job)
            with self._record.open("a") as record:
                record.write(f"{point} {order.action} {job}\n")
        return _strike(order.action)


def _on_loop() -> bool:
    return threading.current_thread() is threading.main_thread()


def _strike(action: str) -> float:
    in_thread = not _on_loop()
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "delay":
            return DELAY
        case "error" if in_thread:
            if threading.current_thread().name == "rolehost-store-writer":
                raise sqlite3.OperationalError("disk I/O error")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        case _ if in_thread:
            _of_threads.action = action
        case _:
            fate = _fate.get(Fate())
            fate.action = action
            _fate.set(fate)
    return 0.0


class _Calls(Faults):
    async def around(self, call: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        fate = _fate.get(Fate())
        if fate.take("error"):
            raise StoreUnavailableError(f"{call}: failed, as planned")
        lost = fate.take("lost")
        answer = await work()
        if lost or (call in {"blobs.put", "blobs.download", "submit"} and _of_threads.take("lost")):
            raise StoreUnavailableError(f"{call}: the answer was lost, as planned")
        return answer


@asynccontextmanager
async def connected(environ: Mapping[str, str]) -> AsyncIterator[Stores]:
    """The stores, as the strikes have them; with an outbox, where a point lies between row and message."""
    async with connect(environ) as stores:
        yield FaultyStores(stores, _Calls(), outbox="-put:" in environ.get(VARIABLE, ""))


def load() -> None:
    """Strike this process as the variables say; its workers open their stores with their faults."""
    failpoints.install(Strikes(os.environ.get(VARIABLE, ""), Path(os.environ[STRUCK])))
    vars(queue_worker)["connect"] = connected
