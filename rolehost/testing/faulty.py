"""Stores that fail on demand, in the three ways in which real ones do.

    faults = Faults()
    stores = FaultyStores(inner, faults)
    faults.refuse("jobs.write", at=2)            # the second write: nothing is applied
    faults.lose_answer("submit")                 # the first submit is applied, and the caller is not told
    faults.delay("blobs.*", 2.0, times=None)     # everything with blobs takes two seconds longer

Calls are named `<table>.<verb>`, `queue.<verb>`, `blobs.<verb>`, `queues` and `submit`; a pattern is one of `fnmatch`.
To fail at every call in turn, plan a fault at call 1, 2, 3, ... until `Faults.fired` stays empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeVar

from rolehost import clock
from rolehost.errors import StoreError, StoreUnavailableError
from rolehost.stores import (
    BlobFacts,
    BlobPage,
    Blobs,
    DeadPage,
    Fields,
    NewRow,
    Note,
    Page,
    Queue,
    QueueCapabilities,
    QueueCounts,
    QueueLimits,
    QueueMessage,
    Row,
    Stores,
    Table,
    TableLimits,
    TagCounts,
)
from rolehost.stores.outbox import submit as submit_with_outbox

Answer = TypeVar("Answer")


class _Kind(Enum):
    REFUSE = auto()
    LOSE_ANSWER = auto()
    DELAY = auto()


@dataclass(slots=True)
class _Fault:
    kind: _Kind
    pattern: str
    at: int
    times: int | None
    seconds: float = 0.0
    error: Callable[[], StoreError] = StoreUnavailableError
    met: int = 0

    def strikes(self, call: str) -> bool:
        if not fnmatchcase(call, self.pattern):
            return False
        self.met += 1
        return self.met >= self.at and (self.times is None or self.met < self.at + self.times)


class Faults:
    """What is to go wrong, and what was called.

    `calls` has the name of every call so far, `fired` of those that a fault struck.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fired: list[str] = []
        self._planned: list[_Fault] = []

    def refuse(
        self,
        pattern: str = "*",
        *,
        at: int = 1,
        times: int | None = 1,
        error: Callable[[], StoreError] = StoreUnavailableError,
    ) -> None:
        """Fail before the call: nothing is applied.

        Args:
            pattern: which calls.
            at: the first call that fails, of those that match from now on, counted from 1.
            times: how many fail from there; None for all.
            error: makes the exception, `StoreFullError` for a full disk.
        """
        self._planned.append(_Fault(_Kind.REFUSE, pattern, at, times, error=error))

    def lose_answer(self, pattern: str = "*", *, at: int = 1, times: int | None = 1) -> None:
        """Fail after the call: it is applied, then `StoreUnavailableError` is raised in place of its answer.

        Args:
            pattern: which calls.
            at: the first call that fails, counted from 1.
            times: how many fail from there; None for all.
        """
        self._planned.append(_Fault(_Kind.LOSE_ANSWER, pattern, at, times))

    def delay(self, pattern: str, seconds: float, *, at: int = 1, times: int | None = 1) -> None:
        """Wait before the call, on `rolehost.clock`.

        Args:
            pattern: which calls.
            seconds: how long.
            at: the first call that is slow, counted from 1.
            times: how many are slow from there; None for all.
        """
        self._planned.append(_Fault(_Kind.DELAY, pattern, at, times, seconds))

    def clear(self) -> None:
        """Forget the plan; the records stay."""
        self._planned.clear()

    async def around(self, call: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Make a call as planned."""
        lost = await self._before(call)
        answer = await work()
        if lost:
            raise StoreUnavailableError(f"{call}: the answer was lost, as planned")
        return answer

    async def around_stream(self, call: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass pieces on; a lost answer breaks off after the first one."""
        lost = await self._before(call)
        async for piece in pieces:
            yield piece
            if lost:
                raise StoreUnavailableError(f"{call}: broken off, as planned")

    async def _before(self, call: str) -> bool:
        """Wait or fail, if that is planned; whether the answer has to be lost."""
        self.calls.append(call)
        # Each fault counts the call, also when another one strikes first.
        striking = [fault for fault in self._planned if fault.strikes(call)]
        if striking:
            self.fired.append(call)
        for fault in striking:
            if fault.kind is _Kind.DELAY:
                await clock.sleep(fault.seconds)
        for fault in striking:
            if fault.kind is _Kind.REFUSE:
                raise fault.error()
        return any(fault.kind is _Kind.LOSE_ANSWER for fault in striking)


class FaultyStores:
    """Any stores, with faults.

    Args:
        inner: the stores that do the work.
        faults: what is to go wrong; without a plan nothing does.
        outbox: submit as engines do that have no transaction over table and queue: row, message and note are calls of
            their own, which may fail each.
    """

    def __init__(self, inner: Stores, faults: Faults, *, outbox: bool = False) -> None:
        self._inner = inner
        self._outbox = outbox
        self._faults = faults
        self._blobs = _FaultyBlobs(inner.blobs, faults)

    @property
    def blobs(self) -> Blobs:
        """The blobs."""
        return self._blobs

    def queue(self, name: str) -> Queue:
        """The queue with this name."""
        return _FaultyQueue(self._inner.queue(name), self._faults)

    async def queues(self) -> Sequence[str]:
        """See `Stores.queues`."""
        return await self._faults.around("queues", self._inner.queues)

    def table(self, name: str) -> Table:
        """The table with this name."""
        return _FaultyTable(self._inner.table(name), self._faults)

    async def submit(self, row: NewRow) -> str:
        """See `Stores.submit`."""
        if self._outbox:
            return await submit_with_outbox(self.table(row.table), self.queue(row.queue), row)
        return await self._faults.around("submit", lambda: self._inner.submit(row))

    async def close(self) -> None:
        """Close the inner stores: no fault is planned for that."""
        await self._inner.close()


class _FaultyBlobs:
    def __init__(self, inner: Blobs, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    async def put(self, name: str, source: Path | bytes, *, consume: bool = False) -> BlobFacts:
        return await self._faults.around("blobs.put", lambda: self._inner.put(name, source, consume=consume))

    async def download(self, name: str, target: Path) -> BlobFacts:
        return await self._faults.around("blobs.download", lambda: self._inner.download(name, target))

    def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        return self._faults.around_stream("blobs.stream", self._inner.stream(name, start=start, length=length))

    async def facts(self, name: str) -> BlobFacts:
        return await self._faults.around("blobs.facts", lambda: self._inner.facts(name))

    async def delete(self, name: str) -> None:
        await self._faults.around("blobs.delete", lambda: self._inner.delete(name))

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        return await self._faults.around("blobs.list", lambda: self._inner.list(prefix, limit=limit, cursor=cursor))


class _FaultyTable:
    def __init__(self, inner: Table, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def limits(self) -> TableLimits:
        return self._inner.limits

    async def _around(self, verb: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        return await self._faults.around(f"{self.name}.{verb}", work)

    async def insert(self, key: str, fields: Fields, *, tag: str = "", notes: Sequence[str] = ()) -> str:
        return await self._around("insert", lambda: self._inner.insert(key, fields, tag=tag, notes=notes))

    async def read(self, key: str) -> Row | None:
        return await self._around("read", lambda: self._inner.read(key))

    async def write(
        self, key: str, version: str, changes: Fields, *, tag: str | None = None, notes: Sequence[str] = ()
    ) -> str:
        return await self._around("write", lambda: self._inner.write(key, version, changes, tag=tag, notes=notes))

    async def delete(self, key: str, version: str) -> None:
        await self._around("delete", lambda: self._inner.delete(key, version))

    async def list(
        self, *, tag: str | None = None, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page:
        return await self._around(
            "list", lambda: self._inner.list(tag=tag, limit=limit, cursor=cursor, newest_first=newest_first)
        )

    async def counts(self) -> TagCounts:
        return await self._around("counts", self._inner.counts)

    async def notes(self, kind: str, *, limit: int = 1000, after: str = "") -> Sequence[Note]:
        return await self._around("notes", lambda: self._inner.notes(kind, limit=limit, after=after))

    async def drop_note(self, note: Note) -> None:
        await self._around("drop_note", lambda: self._inner.drop_note(note))


class _FaultyQueue:
    def __init__(self, inner: Queue, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def limits(self) -> QueueLimits:
        return self._inner.limits

    @property
    def capabilities(self) -> QueueCapabilities:
        return self._inner.capabilities

    async def put(self, body: str, *, message_id: str, delay: float = 0.0, session: str = "") -> None:
        await self._faults.around(
            "queue.put", lambda: self._inner.put(body, message_id=message_id, delay=delay, session=session)
        )

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        return await self._faults.around("queue.receive", lambda: self._inner.receive(count, hide=hide, wait=wait))

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        return await self._faults.around("queue.renew", lambda: self._inner.renew(message, hide=hide, body=body))

    async def complete(self, message: QueueMessage) -> None:
        await self._faults.around("queue.complete", lambda: self._inner.complete(message))

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        await self._faults.around("queue.release", lambda: self._inner.release(message, delay=delay, body=body))

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        await self._faults.around(
            "queue.dead_letter", lambda: self._inner.dead_letter(message, reason=reason, description=description)
        )

    async def peek(self, count: int, *, dead: bool = False) -> Sequence[QueueMessage]:
        return await self._faults.around("queue.peek", lambda: self._inner.peek(count, dead=dead))

    async def dead(self, limit: int, *, cursor: str | None = None, prefix: str = "") -> DeadPage:
        return await self._faults.around("queue.dead", lambda: self._inner.dead(limit, cursor=cursor, prefix=prefix))

    async def remove_dead(self, message_id: str) -> bool:
        return await self._faults.around("queue.remove_dead", lambda: self._inner.remove_dead(message_id))

    async def counts(self) -> QueueCounts:
        return await self._faults.around("queue.counts", self._inner.counts)
