"""Step 7: what a crash left undone is woken or collected.

Any instance may sweep, and two at once do no harm: sweepers only put wake-ups, claimers alone record how attempts
ended. Each pass looks at the open work and at a bounded page of the rest, never at the whole table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import NotAWakeUpError, NotFoundError, StoreError
from rolehost.failpoints import failpoint
from rolehost.jobs.garbage import GarbageCollection
from rolehost.jobs.job import Job, JobState
from rolehost.jobs.levels import kind_of, queue_of
from rolehost.jobs.retention import Retention, RetentionRules
from rolehost.jobs.table import DEBT, TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Note
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.jobs.webhooks import Webhooks
    from rolehost.stores import Queue, QueueMessage, Stores

OUTBOX = "outbox"
PAGE = 500
LETTERS = 100
"""Dead letters of a broker's own that a pass looks at in each queue."""
UNDELIVERED = frozenset({"MaxDeliveryCountExceeded", "TTLExpiredException"})
"""Why Service Bus itself sets a message aside: that says nothing about its job."""
LONG_PAST_DUE = 3600.0
"""A queued job that nobody took for so long may have lost its message; looked for once in the same time."""


@dataclass(slots=True)
class _Standing:
    """A lease's latest renewal, by its version, and since when it stands, on our own clock."""

    version: str
    since: float
    woken: bool = False


@dataclass(slots=True)
class _Memory:
    """What a sweeper knows from its earlier passes; it dies with it, and nothing but a repeated wake-up is lost."""

    notes: frozenset[Note] = frozenset()
    owed: dict[str, float] = field(default_factory=dict)
    leases: dict[str, _Standing] = field(default_factory=dict)
    letters: dict[str, str | None] = field(default_factory=dict)
    looked: float = 0.0


class Recovery:
    """One sweeper's passes.

    Args:
        stores: where the jobs are.
        lease: seconds that a lease lasts at least; a row's own is respected where it is longer.
        rules: how long jobs are kept when they are over.
        webhooks: delivers those that are owed; None: others do.
    """

    def __init__(
        self, stores: Stores, *, lease: float, rules: RetentionRules | None = None, webhooks: Webhooks | None = None
    ) -> None:
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._lease = lease
        self._memory = _Memory(looked=clock.monotonic() - LONG_PAST_DUE)
        self._garbage = GarbageCollection(stores)
        self._retention = Retention(stores, rules or RetentionRules())
        self._webhooks = webhooks

    async def sweep(self) -> None:
        """One pass; a part that meets a store error is left to the next pass, and the others go on."""
        parts: Iterable[Callable[[], Awaitable[None]]] = (
            self._put_what_is_owed,
            self._begin_webhooks,
            self._wake_dead_leases,
            self._wake_undelivered,
            self._wake_forgotten,
            self._garbage.collect,
            self._retention.apply,
        )
        for part in parts:
            try:
                await part()
            except StoreError as error:
                emit("store.unavailable", what=f"recovery: {part.__name__.strip('_')}", why=str(error))

    async def _put_what_is_owed(self) -> None:
        """The outbox and the debts; an entity is left alone until it was met in two passes: its writer may live."""
        table = self._stores.table(TABLE)
        found = frozenset(await table.notes(OUTBOX)) | frozenset(await table.notes(DEBT))
        for note in sorted(found & self._memory.notes, key=lambda note: note.key):
            job = await self._jobs.read(note.key)
            if job is None:
                await table.drop_note(note)
            elif note.kind == OUTBOX:
                if not job.state.terminal:
                    await self._wake(job, f"{job.id}:0", "its message was never put")
                await table.drop_note(note)
            elif clock.monotonic() - self._memory.owed.get(job.id, -LONG_PAST_DUE) >= LONG_PAST_DUE:
                # Whoever receives it finds a poisoned row, makes the dead letter, and drops the debt; what failed of
                # that is done again, for nobody else would.
                await self._wake(job, f"{job.id}:dead", "its dead letter was never made")
                self._memory.owed[job.id] = clock.monotonic()
        self._memory.notes = found
        self._memory.owed = {job: since for job, since in self._memory.owed.items() if Note(DEBT, job) in found}

    async def _begin_webhooks(self) -> None:
        """Deliver what is owed and due; no pass waits for a receiver."""
        if self._webhooks is not None:
            await self._webhooks.sweep()

    async def _wake_dead_leases(self) -> None:
        """A lease is dead when its row stood still for a whole lease on our own clock; once for each renewal.

        It counts from when a version was known to when it was asked for again: what slow answers took proves nothing.
        """
        asked = clock.monotonic()
        running = await self._all_running()
        known = clock.monotonic()
        before = self._memory.leases
        self._memory.leases = {
            job.id: standing
            if (standing := before.get(job.id)) and standing.version == job.held_since
            else _Standing(job.held_since, known)
            for job in running
        }
        for job in running:
            standing = self._memory.leases[job.id]
            if not standing.woken and asked - standing.since >= max(self._lease, job.lease):
                await self._wake(job, f"{job.id}:v{job.held_since}", "its lease stood still", seen=job.held_since)
                standing.woken = True

    async def _all_running(self) -> list[Job]:
        running: list[Job] = []
        cursor = None
        while True:
            page = await self._jobs.list(state=JobState.RUNNING, limit=PAGE, cursor=cursor)
            running += page.jobs
            cursor = page.cursor
            if cursor is None:
                return running

    async def _wake_undelivered(self) -> None:
        """What a broker dead-lettered by itself, where it does: the row decides whether that is right."""
        for name in await self._stores.queues():
            queue = self._stores.queue(name) if kind_of(name) else None  # a namespace may have queues of others, too
            if queue is not None and queue.capabilities.native_dead_letters:
                try:
                    await self._look_through(queue)
                except NotFoundError:
                    continue  # a level that nobody has used has no queue
                except StoreError as error:  # must not keep us from the others
                    emit("store.unavailable", what="recovery: wake undelivered", queue=name, why=str(error))

    async def _look_through(self, queue: Queue) -> None:
        page = await queue.dead(LETTERS, cursor=self._memory.letters.get(queue.name))
        for letter in page.messages:
            await self._look_at(queue, letter)
        self._memory.letters[queue.name] = page.cursor

    async def _look_at(self, queue: Queue, letter: QueueMessage) -> None:
        """A poisoned job's letter pays its debt and stays, as one without a job does; an open job is woken again."""
        try:
            told = WakeUp.decode(letter.body)
        except NotAWakeUpError:
            return
        debt = Note(DEBT, told.job)
        if debt not in self._memory.notes and letter.reason not in UNDELIVERED:
            return
        job = await self._jobs.read(told.job)
        if job is not None and job.state is JobState.POISONED:
            if debt in self._memory.notes:
                await self._stores.table(TABLE).drop_note(debt)
        elif job is not None and letter.reason in UNDELIVERED:
            if not job.state.terminal:
                await self._wake(job, f"{letter.id}:again", "its message was delivered too often")
            await queue.remove_dead(letter.id)

    async def _wake_forgotten(self) -> None:
        """Queued rows long past due, where the queue does not simply have more work than workers."""
        if clock.monotonic() - self._memory.looked < LONG_PAST_DUE:  # also the first pass looks
            return
        self._memory.looked = clock.monotonic()
        page = await self._jobs.list(state=JobState.QUEUED, limit=PAGE, newest_first=False)
        due = clock.now() - timedelta(seconds=LONG_PAST_DUE)
        for job in page.jobs:
            if (job.retries_at or job.spec.submitted_at) < due and not await self._backlog(job):
                await self._wake(job, f"{job.id}:v{job.version}", "nobody took it for an hour")

    async def _backlog(self, job: Job) -> bool:
        counted = await self._stores.queue(queue_of(job.spec)).counts()
        return bool(counted.visible)

    async def _wake(self, job: Job, message_id: str, why: str, *, seen: str | None = None) -> None:
        """Put a wake-up; it carries a version only of a row that was read as queued."""
        told = WakeUp(job=job.id, spec=job.spec, seen=seen)
        if job.state is JobState.QUEUED:
            told = WakeUp(
                job=job.id, spec=job.spec, version=job.version, attempt=job.attempt, charges=job.charges, seen=seen
            )
        queue = self._stores.queue(queue_of(job.spec))
        await failpoint("before-wake", job.id)
        await queue.put(told.encode(), message_id=message_id, session=job.spec.group)
        await failpoint("after-wake", job.id)
        emit("job.woken", job=job.id, why=why)
