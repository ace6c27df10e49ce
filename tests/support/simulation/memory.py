"""Stores in memory: the contracts, without durability, and with monitors that see every change."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rolehost import clock
from rolehost.errors import AlreadyExistsError, NotFoundError, ReceiptMismatchError, VersionMismatchError
from rolehost.stores import (
    BlobFacts,
    BlobPage,
    DeadPage,
    Fields,
    NewRow,
    Note,
    Page,
    QueueCapabilities,
    QueueCounts,
    QueueLimits,
    QueueMessage,
    Row,
    TableLimits,
    TagCounts,
)

Watch = Callable[["MemoryTable", Row | None, Row | None], None]


class MemoryTable:
    """See `rolehost.stores.Table`; `watch` is told of every change of a row, before and after."""

    limits = TableLimits(largest_field=1 << 20, largest_row=1 << 22, fields_per_row=1000)

    def __init__(self, name: str, versions: itertools.count[int], watch: Watch) -> None:
        self.name = name
        self.rows: dict[str, Row] = {}
        self.kept_notes: dict[Note, None] = {}
        self.written: dict[str, float] = {}
        self._versions = versions
        self._watch = watch

    def _set(self, row: Row | None, key: str) -> None:
        before = self.rows.get(key)
        self._watch(self, before, row)
        self.written[key] = clock.monotonic()
        if row is None:
            del self.rows[key]
        else:
            self.rows[key] = row

    async def insert(self, key: str, fields: Fields, *, tag: str = "", notes: Sequence[str] = ()) -> str:
        if key in self.rows:
            raise AlreadyExistsError(key)
        row = Row(key=key, version=str(next(self._versions)), tag=tag, fields=dict(fields))
        self._set(row, key)
        self.kept_notes |= dict.fromkeys(Note(kind, key) for kind in notes)
        return row.version

    async def read(self, key: str) -> Row | None:
        return self.rows.get(key)

    async def write(
        self, key: str, version: str, changes: Fields, *, tag: str | None = None, notes: Sequence[str] = ()
    ) -> str:
        row = self._expected(key, version)
        merged = {name: value for name, value in {**row.fields, **changes}.items() if value is not None}
        new = Row(key=key, version=str(next(self._versions)), tag=row.tag if tag is None else tag, fields=merged)
        self._set(new, key)
        self.kept_notes |= dict.fromkeys(Note(kind, key) for kind in notes)
        return new.version

    async def delete(self, key: str, version: str) -> None:
        self._expected(key, version)
        self._set(None, key)

    def _expected(self, key: str, version: str) -> Row:
        row = self.rows.get(key)
        if row is None or row.version != version:
            raise VersionMismatchError(key)
        return row

    async def list(
        self, *, tag: str | None = None, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page:
        found = sorted((row for row in self.rows.values() if tag in {None, row.tag}), key=lambda row: row.key)
        found = found[::-1] if newest_first else found
        start = int(cursor or 0)
        more = start + limit < len(found)
        return Page(found[start : start + limit], str(start + limit) if more else None)

    async def counts(self) -> TagCounts:
        tags = [row.tag for row in self.rows.values()]
        return TagCounts({tag: tags.count(tag) for tag in set(tags)}, clock.now())

    async def notes(self, kind: str, *, limit: int = 1000, after: str = "") -> Sequence[Note]:
        found = (note for note in self.kept_notes if note.kind == kind and note.key > after)
        return sorted(found, key=lambda note: note.key)[:limit]

    async def drop_note(self, note: Note) -> None:
        self.kept_notes.pop(note, None)


# ruff: noqa: ASYNC240 - files in memory, and nobody else on the loop
class MemoryBlobs:
    """See `rolehost.stores.Blobs`; `watch_removal` is told before a blob goes."""

    def __init__(self, watch_removal: Callable[[str], None]) -> None:
        self.content: dict[str, bytes] = {}
        self._watch_removal = watch_removal

    async def put(self, name: str, source: Path | bytes, *, consume: bool = False) -> BlobFacts:
        if name in self.content:
            raise AlreadyExistsError(name)
        self.content[name] = source if isinstance(source, bytes) else source.read_bytes()
        if consume and isinstance(source, Path):
            source.unlink()
        return await self.facts(name)

    async def download(self, name: str, target: Path) -> BlobFacts:
        facts = await self.facts(name)
        target.write_bytes(self.content[name])
        return facts

    async def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        await self.facts(name)
        yield self.content[name][start:][:length]

    async def facts(self, name: str) -> BlobFacts:
        if name not in self.content:
            raise NotFoundError(name)
        data = self.content[name]
        return BlobFacts(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())

    async def delete(self, name: str) -> None:
        self._watch_removal(name)
        self.content.pop(name, None)

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        names = sorted(name for name in self.content if name.startswith(prefix) and name > (cursor or ""))
        return BlobPage(names[:limit], names[limit - 1] if len(names) > limit else None)


@dataclass(slots=True)
class _Held:
    message: QueueMessage
    visible_at: float


class MemoryQueue:
    """See `rolehost.stores.Queue`.

    Args:
        waits: a receive waits for a message, as the embedded engine's.
        doubles: how often two receivers get the same message, as a queue of Azure Storage may do it.
    """

    limits = QueueLimits(largest_message=1 << 16, longest_hiding=7 * 86400.0, receives_per_call=32)

    def __init__(self, name: str, chance: random.Random, *, waits: bool, doubles: float) -> None:
        self.name = name
        self.capabilities = QueueCapabilities(
            waits=waits, rewrites_body=True, native_dead_letters=False, knows_depth=True
        )
        self.held: dict[str, _Held] = {}
        self.letters: dict[str, QueueMessage] = {}
        self.doubles = doubles
        self.chance = chance
        self._serial = itertools.count(1)
        self._news = asyncio.Event()

    async def put(self, body: str, *, message_id: str, delay: float = 0.0, session: str = "") -> None:
        del session
        message = QueueMessage(id=f"{message_id}#{next(self._serial)}", body=body, dequeue_count=0)
        self.held[message.id] = _Held(message, clock.monotonic() + delay)
        self._news.set()

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        until = clock.monotonic() + (wait if self.capabilities.waits else 0.0)
        while not (taken := self._take(count, hide)) and clock.monotonic() < until:
            self._news.clear()
            coming = min((each.visible_at for each in self.held.values()), default=until)
            try:
                async with asyncio.timeout(max(0.01, min(coming, until) - clock.monotonic())):
                    await self._news.wait()
            except TimeoutError:
                continue
        return taken

    def _take(self, count: int, hide: float) -> list[QueueMessage]:
        now = clock.monotonic()
        visible = [each for each in self.held.values() if each.visible_at <= now]
        self.chance.shuffle(visible)
        taken = []
        for each in visible[:count]:
            message = each.message
            each.message = replace(message, dequeue_count=message.dequeue_count + 1, receipt=str(next(self._serial)))
            if self.chance.random() >= self.doubles:
                each.visible_at = now + hide
            taken.append(each.message)
        return taken

    def _ours(self, message: QueueMessage) -> _Held:
        found = self.held.get(message.id)
        if found is None or found.message.receipt != message.receipt:
            raise ReceiptMismatchError(message.id)
        return found

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        found = self._ours(message)
        found.message = replace(found.message, receipt=str(next(self._serial)), body=body or found.message.body)
        found.visible_at = clock.monotonic() + hide
        return found.message

    async def complete(self, message: QueueMessage) -> None:
        del self.held[self._ours(message).message.id]

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        await self.renew(message, hide=delay, body=body)
        self._news.set()

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        found = self._ours(message)
        await self.put_dead(found.message, reason, description)
        await self.complete(message)

    async def put_dead(self, message: QueueMessage, reason: str, description: str) -> None:
        """A dead letter by itself: the first half of a move, where a move is two calls."""
        self.letters[f"{message.id}/{next(self._serial)}"] = replace(message, reason=reason, description=description)

    async def peek(self, count: int, *, dead: bool = False) -> Sequence[QueueMessage]:
        if dead:
            return [replace(message, id=name) for name, message in self.letters.items()][:count]
        return [each.message for each in self.held.values() if each.visible_at <= clock.monotonic()][:count]

    async def dead(self, limit: int, *, cursor: str | None = None, prefix: str = "") -> DeadPage:
        names = list(self.letters)
        found = [
            replace(self.letters[name], id=name)
            for name in names[names.index(cursor) + 1 if cursor in self.letters else 0 :]
            if name.startswith(prefix)
        ]
        return DeadPage(messages=found[:limit], cursor=found[limit - 1].id if len(found) > limit else None)

    async def remove_dead(self, message_id: str) -> bool:
        return self.letters.pop(message_id, None) is not None

    async def counts(self) -> QueueCounts:
        visible = sum(each.visible_at <= clock.monotonic() for each in self.held.values())
        return QueueCounts(visible=visible, hidden=len(self.held) - visible, dead=len(self.letters))


class MemoryStores:
    """See `rolehost.stores.Stores`; row and message of a submission are written in one step."""

    def __init__(self, queue: MemoryQueue, watch: Watch, watch_removal: Callable[[str], None]) -> None:
        self.blobs = MemoryBlobs(watch_removal)
        self._queue = queue
        self._watch = watch
        self._versions = itertools.count(1)
        self._tables: dict[str, MemoryTable] = {}

    def queue(self, name: str) -> MemoryQueue:
        assert name == self._queue.name
        return self._queue

    async def queues(self) -> Sequence[str]:
        return [self._queue.name]

    def table(self, name: str) -> MemoryTable:
        return self._tables.setdefault(name, MemoryTable(name, self._versions, self._watch))

    async def submit(self, row: NewRow) -> str:
        version = await self.table(row.table).insert(row.key, row.fields, tag=row.tag)
        await self._queue.put(row.message(version), message_id=row.message_id)
        return version

    async def close(self) -> None:
        pass
