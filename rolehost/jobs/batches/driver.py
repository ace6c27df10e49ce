"""Who drives batches: any process with stores open, one at a time by a leased row, which only saves work.

What it costs where each request is billed: while no batch is on its way, one query a minute. While one is, each look
(every two seconds) asks for the rows of the live batches (one query; sixteen, once the table has more than a hundred
batches), writes the batch's row if something changed, and reads the job rows that may have ended: 16 or so in a look,
and one for each job that did. To let an item in costs what submitting a job costs. An item is so about 1.3 requests
more than a job that is submitted alone (measured on Azurite: 5.3 against 4). On this machine's own stores a look costs
some reads of a local database: then there are two or three in a second.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from rolehost import clock
from rolehost.errors import ConflictError, StoreError
from rolehost.jobs.batches.course import Course, Standing
from rolehost.jobs.batches.ending import finish, finish_cancel
from rolehost.jobs.batches.model import Batch, BatchState
from rolehost.jobs.batches.table import BatchTable
from rolehost.jobs.batches.turns import Pace, Turn, shares
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.levels import queues_of
from rolehost.jobs.sweeper import TABLE as LEASES
from rolehost.stores import Stores, Table
from rolehost.telemetry import emit
from rolehost.telemetry.transactions import SWEEPER, spent_on

Answer = TypeVar("Answer")

KEY: Final = "batches"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often a driver looks.

    Args:
        active: seconds between two looks at batches that it drives.
        watching: at those that another one drives.
        idle: where there are none.
        ahead: seconds of work that may wait in a queue.
        kept: a lease whose row was written so many seconds ago is written again.
    """

    active: float
    watching: float
    idle: float
    ahead: float
    kept: float


NEAR: Final = Rhythm(active=0.4, watching=1.0, idle=1.0, ahead=1.5, kept=1.5)
FAR: Final = Rhythm(active=2.0, watching=15.0, idle=60.0, ahead=5.0, kept=10.0)
_PATIENCE: Final = 3.0
"""A driver is gone when its row stood still for so many times `kept`, on the observer's own clock."""
_GOODBYE: Final = 5.0
_LONGEST_PAUSE: Final = 60.0
"""Between two tries of what fails again and again, as a disk that is full."""
_SHARE: Final = 2
"""Looking takes a third of the time at most."""


class BatchDriver:
    """Drives what has to be driven, for as long as it runs.

    Args:
        stores: where the batches are.
        holder: who we are, for people to read.
        rhythm: how often it looks; None: as fits the stores.
    """

    def __init__(self, stores: Stores, holder: str, *, rhythm: Rhythm | None = None) -> None:
        self._stores = stores
        self._table = BatchTable(stores)
        self._near = is_near(stores)
        self._rhythm = rhythm or (NEAR if self._near else FAR)
        self._lease = _Lease(stores.table(LEASES), holder, self._rhythm.kept)
        self._courses: dict[str, Course] = {}
        self._paces: dict[str, Pace] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: Counter[str] = Counter()
        self._kicked = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def kick(self) -> None:
        """Look now: a batch was sealed or cancelled here."""
        self._kicked.set()

    async def __aenter__(self) -> Self:
        """Drive, for as long as the block lasts."""
        self._running = asyncio.create_task(self.run(), name="batches")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def run(self) -> None:
        """Drive until cancelled; then let another begin at once."""
        with spent_on(SWEEPER):
            await self._run()

    async def _run(self) -> None:
        try:
            while True:
                began = clock.monotonic()
                pause = await self._once()
                pause = max(pause, _SHARE * (clock.monotonic() - began)) * (0.9 + 0.2 * random.random())  # noqa: S311 - spreads instances, no secret
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._kicked.wait(), pause)
                self._kicked.clear()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.wait([asyncio.create_task(self._lease.release()), *self._tasks.values()])

    async def _once(self) -> float:
        try:
            return await self.look()
        except StoreError as error:
            emit("store.unavailable", what="batches", why=str(error))
        except Exception as error:  # noqa: BLE001 - a row that can't be read must not end the driving of all the others
            emit("batch.failed", why=repr(error))
        return self._rhythm.watching

    async def look(self) -> float:
        """One look at everything; how many seconds there is nothing to do after it.

        Raises:
            StoreError: nobody answers.
        """
        live = await self._table.live()
        if not live:
            self._courses.clear()
            self._paces.clear()
            await self._lease.release()
            return self._rhythm.idle
        if not await self._lease.held():
            return self._rhythm.watching
        for batch in live:
            if batch.state is not BatchState.RUNNING:
                self._begin(batch)
        await self._step([batch for batch in live if batch.state is BatchState.RUNNING])
        return self._rhythm.active

    async def _step(self, running: Sequence[Batch]) -> None:
        """Look at all that run, share the room in the queues, and let each go on."""
        self._courses = {
            batch.id: self._courses.get(batch.id) or Course(self._stores, near=self._near)
            for batch in running
            if batch.id not in self._tasks
        }
        looks = [(batch, self._courses[batch.id].look(batch)) for batch in running if batch.id in self._courses]
        found = [(batch, standing) for batch, look in looks if (standing := await self._tried(batch, look)) is not None]
        given = self._shared(found)
        for batch, _ in found:
            now = await self._tried(batch, self._courses[batch.id].advance(given.get(batch.id, 0)))
            if now is not None and now.begun == now.items and not now.pages:
                self._begin(now)

    async def _tried(self, batch: Batch, work: Awaitable[Answer]) -> Answer | None:
        """One batch's trouble is not that of the others: it is looked at anew."""
        try:
            return await work
        except ConflictError:  # somebody else wrote it
            self._courses.pop(batch.id, None)
        except StoreError as error:
            self._courses.pop(batch.id, None)
            emit("store.unavailable", what=f"batch {batch.id}", why=str(error))
        except Exception as error:  # noqa: BLE001 - the same
            self._courses.pop(batch.id, None)
            emit("batch.failed", batch=batch.id, why=repr(error))
        return None

    def _shared(self, found: Sequence[tuple[Batch, Standing]]) -> Mapping[str, int]:
        """How many items of each batch go in, queue by queue."""
        given: dict[str, int] = {}
        by_queue: dict[str, list[tuple[Batch, Standing]]] = {}
        for batch, standing in found:
            by_queue.setdefault(queues_of(batch.asked.kind)[batch.asked.priority], []).append((batch, standing))
        for queue, those in by_queue.items():
            pace = self._paces.setdefault(queue, Pace(self._rhythm.ahead))
            room = pace.look(
                clock.monotonic(),
                ended=sum(standing.ended for _, standing in those),
                running=sum(standing.running for _, standing in those),
                queued=sum(standing.queued for _, standing in those),
            )
            turns = [
                Turn(
                    batch=batch.id,
                    submitter=batch.asked.submitter,
                    open=standing.queued + standing.running,
                    left=standing.left,
                )
                for batch, standing in those
            ]
            given |= shares(turns, room)
        return given

    def _begin(self, batch: Batch) -> None:
        """What takes longer, and holds up no other batch."""
        if batch.id not in self._tasks:
            task = asyncio.create_task(self._turn(batch), name=f"batch {batch.id} {batch.state}")
            self._tasks[batch.id] = task
            task.add_done_callback(lambda _: self._turned(batch.id))

    def _turned(self, batch: str) -> None:
        self._tasks.pop(batch, None)
        self._courses.pop(batch, None)
        self.kick()

    async def _turn(self, batch: Batch) -> None:
        try:
            match batch.state:
                case BatchState.SEALING:
                    items = await self._table.manifest(batch.id).close()
                    await self._table.write(batch, state=BatchState.RUNNING, items=items, as_of=clock.now())
                case BatchState.CANCELLING:
                    await finish_cancel(self._stores, batch)
                case _:
                    await finish(self._stores, batch)
        except ConflictError:
            return  # somebody else was faster
        except Exception as error:  # noqa: BLE001 - the next look begins it again
            emit("batch.failed", batch=batch.id, why=repr(error))
            self._failed[batch.id] += 1
            await clock.sleep(min(self._rhythm.active * 2 ** min(self._failed[batch.id], 10), _LONGEST_PAUSE))
        else:
            del self._failed[batch.id]


class _Lease:
    """A row that moves for as long as its holder lives."""

    def __init__(self, table: Table, holder: str, kept: float) -> None:
        self._table = table
        self._holder = holder
        self._kept = kept
        self._version: str | None = None
        self._written = 0.0
        self._other: tuple[str, float] | None = None

    async def held(self) -> bool:
        """Take the row, or keep it; whether it is ours."""
        now = clock.monotonic()
        try:
            if self._version is not None:
                if now - self._written >= self._kept:
                    self._version = await self._table.write(KEY, self._version, self._facts())
                    self._written = now
                return True
            row = await self._table.read(KEY)
            if row is None:
                self._version = await self._table.insert(KEY, self._facts())
            elif self._stood_still(row.version, now):
                self._version = await self._table.write(KEY, row.version, self._facts())
            else:
                return False
        except ConflictError:
            self._version = None
            return False
        self._written = now
        return True

    async def release(self) -> None:
        """Let another begin at once."""
        version, self._version = self._version, None
        if version is not None:
            with suppress(StoreError, TimeoutError):  # else it is seen to stand still
                async with asyncio.timeout(_GOODBYE):
                    await self._table.delete(KEY, version)

    def _stood_still(self, version: str, now: float) -> bool:
        if self._other is None or self._other[0] != version:
            self._other = version, now
        return now - self._other[1] >= _PATIENCE * self._kept

    def _facts(self) -> dict[str, str]:
        return {"holder": self._holder, "held_at": clock.iso(clock.now())}


def is_near(stores: Stores) -> bool:
    """Whether the stores are this machine's own, so that a request costs next to nothing."""
    capabilities = stores.queue(kind_named("thumbnail").queue).capabilities
    return capabilities.waits and capabilities.rewrites_body
