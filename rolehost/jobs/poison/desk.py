"""What a person does with what was set aside: list, look, replay, purge."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost.errors import (
    AlreadyReplayedError,
    ConflictError,
    InvalidParameterError,
    RoleHostError,
    StoreFullError,
    StoreUnavailableError,
    UnknownJobError,
)
from rolehost.jobs.job import Job, new_id
from rolehost.jobs.poison.entries import Entry, from_letter_id
from rolehost.jobs.poison.pace import Pace
from rolehost.jobs.poison.provenance import Provenance, provenance
from rolehost.jobs.poison.scan import CHUNK, DeskPage, Place, Scan, letter_of, replays_of
from rolehost.jobs.poison.wanted import Wanted
from rolehost.jobs.removal import remove_job
from rolehost.jobs.replays import REPLAYABLE, REPLAYS, Replayed, Replays, can_be_finished
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.stores import Stores

TRIES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became of one entry in a replay or purge of many.

    Args:
        id: the entry.
        job: the new job, of a replay that was made.
        refused: why nothing was done with it; empty if it was, or would be in a dry run.
    """

    id: str
    job: Job | None = None
    refused: str = ""


class PoisonDesk:
    """The desk over the stores of any engine.

    Args:
        stores: where the jobs are.
        submitter: the process's own, if it has one.
    """

    def __init__(self, stores: Stores, submitter: Submitter | None = None) -> None:
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._replays = Replays(stores.table(REPLAYS))
        self._submitter = submitter or Submitter(stores)

    async def list(
        self,
        wanted: Wanted | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        look_at: int | None = None,
        seconds: float | None = None,
        newest_first: bool = True,
    ) -> DeskPage:
        """A page of the desk: jobs the newest first, then messages that are no such job's.

        Args:
            wanted: the filter; by default poisoned jobs that were not replayed yet, and messages.
            limit: entries at most.
            cursor: where the page before ended.
            look_at: rows and messages to look at at most; None for all.
            seconds: for how long at most; None: as long as it takes.
            newest_first: the order of the jobs; a cursor is good for one order.

        Raises:
            InvalidParameterError: the cursor is none of this list.
        """
        wanted = wanted or Wanted()
        chunk = limit + 1 if wanted.everything else CHUNK
        scan = Scan(self._stores, wanted, chunk=chunk, newest_first=newest_first)
        return await scan.page(cursor, limit, look_at=look_at, seconds=seconds)

    async def ids(self, wanted: Wanted, *, limit: int | None = None) -> AsyncGenerator[str, None]:
        """All that is wanted, the oldest job first, then messages."""
        scan = Scan(self._stores, wanted, newest_first=False)
        found = 0
        async with aclosing(scan.walk(Place())) as walk:
            async for entry, _ in walk:
                if entry:
                    found += 1
                    yield entry.id
                if found == limit:
                    return

    async def entry(self, entry_id: str) -> Entry:
        """One entry.

        Raises:
            UnknownJobError: nothing has this id.
            InvalidParameterError: the job did not end badly.
        """
        letter = from_letter_id(entry_id)
        if letter is None:
            job = await self._ended_badly(entry_id)
            return Entry(job=job, replays=await replays_of(self._replays, self._jobs, job.id))
        queue, message_id = letter
        cursor = None
        while True:
            page = await self._stores.queue(queue).dead(CHUNK, cursor=cursor, prefix=message_id)
            for message in page.messages:
                if message.id == message_id and (found := await letter_of(self._stores, queue, message)):
                    return Entry(letter=found)
            if (cursor := page.cursor) is None:
                raise UnknownJobError("no dead letter has this id; it may have been purged")

    async def provenance(self, job: Job) -> Provenance:
        """Where a job comes from, and what it was replayed as."""
        return await provenance(self._stores, job)

    async def replay(self, entry_id: str, *, again: bool = False) -> Job:
        """Submit a poisoned or failed job again, as a new job with its own copy of the input.

        The new job names its origin, the desk remembers the replay beside the origin, and the old row never changes. A
        replay that was cut off is finished by the next one, under the same id.

        Args:
            entry_id: the job.
            again: also if it was replayed before.

        Raises:
            UnknownJobError: no job has this id.
            InvalidParameterError: the job did not end badly, or it is a message.
            AlreadyReplayedError: it was replayed before.
            NotFoundError: its input is no longer kept.
        """
        if from_letter_id(entry_id):
            raise InvalidParameterError(f"{entry_id} can't be replayed: {(await self.entry(entry_id)).why_not}", "id")
        job = await self._ended_badly(entry_id)
        known = await self._reserved(job.id, again=again)
        if known.reserved is None:
            raise AssertionError
        new = await self._jobs.read(known.reserved.job) or await self._place(job, known.reserved.job)
        await self._replays.record(job.id, known)
        emit("job.replayed", job=new.id, origin=job.id)
        return new

    async def would_replay(self, entry_id: str, *, again: bool = False) -> None:
        """What `replay` would refuse is refused; nothing is changed.

        Raises:
            RoleHostError: as `replay`.
        """
        entry = await self.entry(entry_id)
        if entry.why_not:
            raise InvalidParameterError(f"{entry_id} can't be replayed: {entry.why_not}", "id")
        if entry.replays and not again:
            raise _already(entry_id, entry.replays[-1].job)
        if entry.job and entry.job.spec.source.kept:
            await self._stores.blobs.facts(entry.job.spec.source.blob)

    async def purge(self, entry_id: str) -> None:
        """Remove a job for good: messages, blobs, row, in that order; or a message that is no poisoned job's.

        Raises:
            UnknownJobError: nothing has this id.
            InvalidParameterError: the job did not end badly.
        """
        entry = await self.entry(entry_id)
        if entry.job:
            await remove_job(self._stores, entry.job)
            emit("job.purged", job=entry.job.id)
        elif entry.letter:
            await self._stores.queue(entry.letter.queue).remove_dead(entry.letter.message.id)
            emit("message.purged", message=entry.letter.message.id, queue=entry.letter.queue)

    async def replay_each(
        self, ids: Iterable[str], *, pace: Pace, again: bool = False, dry_run: bool = False
    ) -> AsyncGenerator[Step, None]:
        """Replay many, one at a time; one that refuses holds up none of the others.

        An interruption lets the one in hand be finished. Whoever starts over replays nothing twice.
        """

        def act(entry_id: str) -> Awaitable[object]:
            return self.would_replay(entry_id, again=again) if dry_run else self.replay(entry_id, again=again)

        async with aclosing(_each(ids, act, pace)) as steps:
            async for step in steps:
                yield step

    async def purge_each(self, ids: Iterable[str], *, dry_run: bool = False) -> AsyncGenerator[Step, None]:
        """Purge many, one at a time, as `replay_each` does."""
        async with aclosing(_each(ids, self.entry if dry_run else self.purge, Pace())) as steps:
            async for step in steps:
                yield step

    async def _reserved(self, origin: str, *, again: bool) -> Replayed:
        """The reservation that is to be finished: one that was left, or a new one."""
        for _ in range(TRIES):
            known = await self._replays.of(origin)
            if known.reserved:
                if await self._jobs.read(known.reserved.job):  # done, but not recorded
                    await self._replays.record(origin, known)
                    continue
                if can_be_finished(known.reserved):
                    return known
            if known.replays and not again:
                raise _already(origin, known.replays[-1].job)
            try:
                return await self._replays.reserve(origin, known, new_id())
            except ConflictError:
                continue
        raise StoreUnavailableError(f"job {origin} could not be replayed: others were at it at the same time")

    async def _place(self, job: Job, new: str) -> Job:
        """The new job: with its own copy of an upload, and with the same URL or lent blob as the old one."""
        source = job.spec.source
        again = Submission(
            name=source.name,
            url=source.url,
            blob=source.blob if source.lent else "",
            kind=job.spec.kind,
            key=f"replay-of-{job.id}",  # others may finish it: no failure of ours may take its input away
            origin=job.id,
            batch=job.spec.batch,
            webhook=job.spec.webhook,
            priority=job.spec.priority,
            group=job.spec.group,
            resources=job.spec.resources,
        )
        if not source.kept:
            return await self._submitter.place(again, new, job.spec.parameters, source.type)
        with tempfile.TemporaryDirectory(prefix="rolehost-replay-") as folder:
            copy = Path(folder) / "source"
            await self._stores.blobs.download(source.blob, copy)
            return await self._submitter.place(replace(again, path=copy), new, job.spec.parameters, source.type)

    async def _ended_badly(self, job_id: str) -> Job:
        job = await self._jobs.read(job_id)
        if job is None:
            raise UnknownJobError(f"no job has the id {job_id}")
        if job.state not in REPLAYABLE:
            raise InvalidParameterError(
                f"job {job_id} is {job.state}; only a poisoned or failed job can be replayed or purged", field="id"
            )
        return job


def _already(origin: str, replay: str) -> AlreadyReplayedError:
    return AlreadyReplayedError(f"job {origin} was replayed already, as {replay}", replay=replay)


async def _each(ids: Iterable[str], act: Callable[[str], Awaitable[object]], pace: Pace) -> AsyncGenerator[Step, None]:
    """Act on each; an interruption waits until the one in hand is done and told."""
    for entry_id in ids:
        await pace.turn()
        task = asyncio.ensure_future(_outcome(entry_id, act))
        try:
            yield await asyncio.shield(task)
        except asyncio.CancelledError:
            yield await task
            raise


async def _outcome(entry_id: str, act: Callable[[str], Awaitable[object]]) -> Step:
    try:
        made = await act(entry_id)
    except (StoreUnavailableError, StoreFullError):
        raise  # the others would meet the same
    except RoleHostError as error:
        return Step(id=entry_id, refused=str(error))
    return Step(id=entry_id, job=made if isinstance(made, Job) else None)
