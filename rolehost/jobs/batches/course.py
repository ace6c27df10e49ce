"""The way of one running batch, as one driver knows it: how its items stand, what is counted, what goes in."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from rolehost import clock
from rolehost.errors import VersionMismatchError
from rolehost.jobs.batches.admission import place_all, spec_of
from rolehost.jobs.batches.model import MOST_TROUBLES, PAGE, REMOVED, Batch, Item, Trouble
from rolehost.jobs.batches.table import BatchTable
from rolehost.jobs.job import Job, JobState
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores

STALE: Final = timedelta(seconds=20)
"""Counts that did not change are dated anew after it."""
LONGEST_REASON: Final = 200
_AT_ONCE: Final = 32
_CHUNK: Final = 16
"""Rows that are read at least in a look, where each costs a request."""
_RETRYING: Final = "retrying"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a look found.

    Args:
        ended: items that ended since the look before.
        queued: items that a worker could begin now.
        running: items that run.
        open: items in pages that are looked at, not ended.
        left: items that wait to be let in.
    """

    ended: int
    queued: int
    running: int
    open: int
    left: int


@dataclass(frozen=True, slots=True)
class ItemEnd:
    """How an item ended, and what is to be told of it if it did not complete."""

    state: str
    trouble: Trouble | None


class Course:
    """A batch that runs.

    What is kept between looks is what can't change any more: items, and ends. All else is read again, so that a driver
    that knows less, because it just began, does the same, only dearer.

    Args:
        stores: where it is.
        near: reading a row costs next to nothing.
    """

    def __init__(self, stores: Stores, *, near: bool) -> None:
        self._stores = stores
        self._table = BatchTable(stores)
        self._jobs = JobTable(stores.table(TABLE))
        self._near = near
        self._known: Batch | None = None
        self._placed = 0
        self._items: dict[int, Sequence[Item]] = {}
        self._ends: dict[int, ItemEnd] = {}
        self._open: dict[int, str] = {}
        self._turn = 0

    async def look(self, batch: Batch) -> Standing:
        """Find out how the items stand.

        Args:
            batch: as it was just read.

        Raises:
            StoreError: nobody answers.
        """
        if self._known is None or self._known.version != batch.version:
            await self._adopt(batch)
        if self._placed < batch.begun:
            await self._place(batch, self._placed, batch.begun)
        before = len(self._ends)
        await self._read_some()
        states = Counter(self._open.values())
        return Standing(
            ended=len(self._ends) - before,
            queued=states[JobState.QUEUED],
            running=states[JobState.RUNNING],
            open=len(self._open),
            left=(batch.items or 0) - batch.begun,
        )

    async def advance(self, more: int) -> Batch:
        """Write how it stands, and let items in.

        Args:
            more: how many.

        Raises:
            VersionMismatchError: somebody else wrote it: look again.
            StoreError: nobody answers.
        """
        if (batch := self._known) is None:
            raise VersionMismatchError("it was not looked at yet")
        begun = min(batch.begun + more, batch.items or 0)
        changes = self._changes(batch, begun)
        if self._worth_writing(batch, changes):
            written = await self._table.write(batch, **changes)
            for page in set(batch.pages) - set(written.pages):
                self._forget(page)
            self._known = written
            await self._place(written, batch.begun, begun)
        return self._known or batch

    def _changes(self, batch: Batch, begun: int) -> dict[str, Any]:
        finished = [page for page in batch.pages if all(at in self._ends for at in _positions(page, batch))]
        begins = range(batch.begun // PAGE, -(-begun // PAGE)) if begun > batch.begun else range(0)
        pages = tuple(sorted((set(batch.pages) | set(begins)) - set(finished)))
        over = [self._ends[at] for page in finished for at in _positions(page, batch)]
        still = [self._ends[at] for page in pages for at in _positions(page, batch) if at in self._ends]
        seen = Counter(JobState.QUEUED if state == _RETRYING else state for state in self._open.values())
        return {
            "begun": begun,
            "placed": self._placed,
            "pages": pages,
            "counts": dict(Counter(batch.counts) + Counter(end.state for end in over)),
            "seen": dict(seen + Counter(end.state for end in still)),
            "as_of": clock.now(),
            "troubles": (*batch.troubles, *_troubles(over))[:MOST_TROUBLES],
            "seen_troubles": _troubles(still)[:MOST_TROUBLES],
        }

    @staticmethod
    def _worth_writing(batch: Batch, changes: Mapping[str, Any]) -> bool:
        told = any(changes[name] != getattr(batch, name) for name in ("begun", "pages", "counts", "seen"))
        return told or clock.now() - batch.as_of > STALE

    async def _adopt(self, batch: Batch) -> None:
        """Go on from a row that somebody else wrote, or from the first that is seen."""
        for page in set(self._items) - set(batch.pages):
            self._forget(page)
        await self._load(batch, batch.pages)
        self._placed = max(self._placed, batch.placed)
        begun = [at for page in batch.pages for at in _positions(page, batch) if at < batch.begun]
        self._open = {at: self._open.get(at, JobState.QUEUED) for at in begun if at not in self._ends}
        self._known = batch

    async def _place(self, batch: Batch, start: int, end: int) -> None:
        if start < end:
            await self._load(batch, range(start // PAGE, -(-end // PAGE)))
            await place_all(self._stores, (spec_of(batch, self._item(at)) for at in range(start, end)))
            self._open |= {at: self._open.get(at, JobState.QUEUED) for at in range(start, end) if at not in self._ends}
        self._placed = max(self._placed, end)

    async def _load(self, batch: Batch, pages: Iterable[int]) -> None:
        missing = [page for page in pages if page not in self._items]
        manifest = self._table.manifest(batch.id)
        for start in range(0, len(missing), _CHUNK):
            some = missing[start : start + _CHUNK]
            self._items |= zip(some, await asyncio.gather(*map(manifest.page, some)), strict=True)

    async def _read_some(self) -> None:
        """All that are open, where that is cheap; else first those that were overtaken, then as far as they ended."""
        waiting = list(self._open)
        if self._near or len(waiting) <= _CHUNK:
            await self._read(waiting)
            return
        latest = max(self._ends, default=-1)
        overtaken = [at for at in waiting if at < latest]
        self._turn = (self._turn + _CHUNK) % max(len(overtaken), 1)
        await self._read((overtaken[self._turn :] + overtaken[: self._turn])[:_CHUNK])
        others = [at for at in waiting if at > latest]
        for start in range(0, len(others), _CHUNK):
            if not await self._read(others[start : start + _CHUNK]):
                return

    async def _read(self, positions: Sequence[int]) -> bool:
        """Read some rows; whether one of them has ended."""
        before = len(self._ends)
        for start in range(0, len(positions), _AT_ONCE):
            some = positions[start : start + _AT_ONCE]
            found = await asyncio.gather(*(self._jobs.read(self._item(at).id) for at in some))
            for at, job in zip(some, found, strict=True):
                self._note(at, job)
        return len(self._ends) > before

    def _note(self, at: int, job: Job | None) -> None:
        if job is not None and not job.state.terminal:
            waits = job.retries_at is not None and job.retries_at > clock.now()
            self._open[at] = _RETRYING if waits and job.state is JobState.QUEUED else job.state
            return
        del self._open[at]
        self._ends[at] = end_of(self._item(at), job)

    def _item(self, at: int) -> Item:
        return self._items[at // PAGE][at % PAGE]

    def _forget(self, page: int) -> None:
        self._items.pop(page, None)
        for at in range(page * PAGE, (page + 1) * PAGE):
            self._ends.pop(at, None)
            self._open.pop(at, None)


def end_of(item: Item, job: Job | None) -> ItemEnd:
    """How an item ended; without a job, which it had, it was removed."""
    if job is None:
        return ItemEnd(REMOVED, Trouble(id=item.id, name=item.name, state=REMOVED, reason=""))
    if job.state is JobState.COMPLETED:
        return ItemEnd(job.state, None)
    reason = job.reason[:LONGEST_REASON]
    return ItemEnd(job.state, Trouble(id=item.id, name=item.name, state=job.state, reason=reason))


def _positions(page: int, batch: Batch) -> range:
    return range(page * PAGE, min((page + 1) * PAGE, batch.items or 0))


def _troubles(ends: Iterable[ItemEnd]) -> tuple[Trouble, ...]:
    return tuple(end.trouble for end in ends if end.trouble is not None)
