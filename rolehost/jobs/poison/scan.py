"""Walking over the desk: first the rows, then the dead letters that are no poisoned job's; from any place, in pages.

Rows are found by their tag, so that the list is the same on every engine; the queues are only looked at for messages
that no row stands for. A page looks at a bounded number of both, says how far it came, and where to go on.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rolehost import clock
from rolehost.errors import InvalidParameterError, NotAWakeUpError
from rolehost.jobs.job import JobState
from rolehost.jobs.levels import kind_of
from rolehost.jobs.poison.entries import Entry, Letter
from rolehost.jobs.replays import REPLAYS, Replay, Replays
from rolehost.jobs.table import BURIED, TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp

if TYPE_CHECKING:
    from rolehost.jobs.job import Job
    from rolehost.jobs.poison.wanted import Wanted
    from rolehost.stores import QueueMessage, Stores

CHUNK: Final = 100
"""Rows or messages that are read at once."""
LOOK_AT: Final = 2000
SECONDS: Final = 0.2
"""What a page of the front end may look at, and for how long."""
_QUEUE: Final = "queue:"
_NO_CURSOR: Final = "the cursor is not one that this list gave"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskPage:
    """Some of what lies on the desk.

    Args:
        entries: jobs the newest first, then messages the oldest first.
        cursor: where to go on; None: that was all.
        looked_at: rows and messages that were looked at, from the first page to the end of this one.
        total: how many there are of them; None where an engine doesn't know.
        cut: the engine shows no more messages until some of those before them are purged.
    """

    entries: Sequence[Entry]
    cursor: str | None
    looked_at: int
    total: int | None
    cut: bool = False

    def to_json(self) -> dict[str, Any]:
        """The page as the API shows it."""
        return {
            "entries": [entry.to_json() for entry in self.entries],
            "cursor": self.cursor,
            "looked_at": self.looked_at,
            "total": self.total,
            "cut": self.cut,
        }


@dataclass(frozen=True, slots=True)
class Place:
    """How far a walk has come.

    Args:
        phase: a state, or `queue:` and a queue's name; empty at the beginning.
        cursor: of the engine's page that was read last.
        after: the id that was looked at last.
        looked_at: rows and messages so far.
    """

    phase: str = ""
    cursor: str | None = None
    after: str = ""
    looked_at: int = 0

    def encode(self, order: str) -> str:
        """An opaque text, good for a walk in the same order."""
        facts = json.dumps([order, self.phase, self.cursor, self.after, self.looked_at])
        return base64.urlsafe_b64encode(facts.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str | None, order: str) -> Place:
        """The reverse.

        Raises:
            InvalidParameterError: it is no cursor of ours.
        """
        if text is None:
            return cls()
        try:
            facts = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
            match facts:
                case [str(found), str(phase), (str() | None) as cursor, str(after), int(looked_at)] if found == order:
                    return cls(phase, cursor, after, looked_at)
        except (binascii.Error, ValueError, RecursionError):
            pass
        raise InvalidParameterError(_NO_CURSOR, "cursor")


Seen: TypeAlias = "tuple[Entry | None, Place]"
"""What was looked at: an entry that is wanted, or None; and the place after it."""


class Scan:
    """One search.

    Args:
        stores: where.
        wanted: what for.
        newest_first: the order of the jobs.
        chunk: rows that are read at once.
    """

    def __init__(self, stores: Stores, wanted: Wanted, *, newest_first: bool = True, chunk: int = CHUNK) -> None:
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._rows = stores.table(TABLE)
        self._replays = Replays(stores.table(REPLAYS))
        self._wanted = wanted
        self._newest_first = newest_first
        self._chunk = min(chunk, CHUNK)
        self._order = "newest" if newest_first else "oldest"
        self.cut = False

    async def page(self, cursor: str | None, limit: int, *, look_at: int | None, seconds: float | None) -> DeskPage:
        """Up to `limit` entries; within the bounds it is known whether there are more."""
        place = Place.decode(cursor, self._order)
        most = None if look_at is None else place.looked_at + look_at
        until = None if seconds is None else clock.monotonic() + seconds
        entries: list[Entry] = []
        more = False
        async with aclosing(self.walk(place)) as walk:
            async for entry, reached in walk:
                if entry and len(entries) == limit:
                    more = True
                    break
                entries += [entry] if entry else []
                place = reached
                if place.looked_at == most or (until is not None and clock.monotonic() >= until):
                    more = True
                    break
        return DeskPage(
            entries=entries,
            cursor=place.encode(self._order) if more else None,
            looked_at=place.looked_at,
            total=await self.total(),
            cut=self.cut,
        )

    async def walk(self, place: Place) -> AsyncGenerator[Seen, None]:
        """Everything from a place on, each with the place after it."""
        for phase in await self._phases(place.phase):
            start = place if phase == place.phase else Place(phase, looked_at=place.looked_at)
            steps = (
                self._walk_letters(start, phase.removeprefix(_QUEUE))
                if phase.startswith(_QUEUE)
                else self._walk_rows(start)
            )
            async with aclosing(steps):
                async for entry, reached in steps:
                    place = reached
                    yield entry, reached

    async def total(self) -> int | None:
        """How many rows and messages there are to look at."""
        counts = await self._jobs.counts()
        total = sum(counts[state] for state in self._wanted.states)
        for phase in await self._phases(""):
            if phase.startswith(_QUEUE):
                dead = (await self._stores.queue(phase.removeprefix(_QUEUE)).counts()).dead
                if dead is None:
                    return None
                total += dead
        return total

    async def _phases(self, begin: str) -> Sequence[str]:
        """The states, then the queues; from one of them on."""
        phases: list[str] = [*self._wanted.states]
        if self._wanted.letters:
            phases += [_QUEUE + name for name in await self._stores.queues() if kind_of(name)]
        if begin.startswith(_QUEUE):  # the queue may be gone by now
            return [phase for phase in phases if phase.startswith(_QUEUE) and phase >= begin]
        if begin and begin not in phases:
            raise InvalidParameterError(_NO_CURSOR, "cursor")
        return phases[phases.index(begin) :] if begin else phases

    async def _walk_rows(self, place: Place) -> AsyncGenerator[Seen, None]:
        state = JobState(place.phase)
        cursor: str | None = place.cursor
        while True:
            page = await self._jobs.list(state=state, limit=self._chunk, cursor=cursor, newest_first=self._newest_first)
            unseen = [job for job in page.jobs if self._comes_after(job.id, place.after)]
            entries = await asyncio.gather(*(self._of_job(job) for job in unseen))
            for job, entry in zip(unseen, entries, strict=True):
                place = replace(place, cursor=cursor, after=job.id, looked_at=place.looked_at + 1)
                yield entry, place
            if (cursor := page.cursor) is None:
                return

    def _comes_after(self, job_id: str, after: str) -> bool:
        return not after or (job_id < after if self._newest_first else job_id > after)

    async def _of_job(self, job: Job) -> Entry | None:
        if not self._wanted.takes_job(job):
            return None
        replays = await replays_of(self._replays, self._jobs, job.id)
        if self._wanted.replayed is not None and self._wanted.replayed != bool(replays):
            return None
        return Entry(job=job, replays=replays)

    async def _walk_letters(self, place: Place, name: str) -> AsyncGenerator[Seen, None]:
        queue = self._stores.queue(name)
        cursor: str | None = place.cursor
        while True:
            page = await queue.dead(CHUNK, cursor=cursor)
            self.cut = self.cut or page.cut
            messages = _after(page.messages, place.after)
            entries = await asyncio.gather(*(self._of_message(name, message) for message in messages))
            for message, entry in zip(messages, entries, strict=True):
                place = replace(place, cursor=cursor, after=message.id, looked_at=place.looked_at + 1)
                yield entry, place
            if (cursor := page.cursor) is None:
                return
            place = replace(place, after="")

    async def _of_message(self, queue: str, message: QueueMessage) -> Entry | None:
        letter = await letter_of(self._stores, queue, message)
        entry = Entry(letter=letter) if letter else None
        return entry if entry and self._wanted.takes_letter(entry) else None


async def letter_of(stores: Stores, queue: str, message: QueueMessage) -> Letter | None:
    """The letter; None if it is a poisoned job's: then the job is the entry."""
    try:
        job_id = WakeUp.decode(message.body).job
    except NotAWakeUpError:
        return Letter(queue=queue, message=message)
    try:
        row = await stores.table(TABLE).read(job_id)
    except InvalidParameterError:  # no row can have such an id
        row = None
    state = JobState(row.tag) if row and row.tag != BURIED else None
    return None if state is JobState.POISONED else Letter(queue=queue, message=message, job=job_id, state=state)


async def replays_of(replays: Replays, jobs: JobTable, job_id: str) -> tuple[Replay, ...]:
    """What a job was replayed as; one that was only reserved counts once its job is there."""
    known = await replays.of(job_id)
    if known.reserved and await jobs.read(known.reserved.job):
        return (*known.replays, known.reserved)
    return known.replays


def _after(messages: Sequence[QueueMessage], last: str) -> Sequence[QueueMessage]:
    """The messages behind the one that was looked at last; all, if that is gone: better twice than never."""
    places = [place for place, message in enumerate(messages) if message.id == last]
    return messages[places[-1] + 1 :] if last and places else messages
