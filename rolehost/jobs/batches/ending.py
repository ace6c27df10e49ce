"""How a batch ends: the job that follows is made, or all its jobs are cancelled."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path

from rolehost import clock
from rolehost.errors import AlreadyExistsError, InvalidParameterError, NotFoundError, UnknownJobError
from rolehost.jobs.batches.adding import safe_name
from rolehost.jobs.batches.admission import input_blob, place, spec_of
from rolehost.jobs.batches.archive import results_zip
from rolehost.jobs.batches.course import ItemEnd, end_of
from rolehost.jobs.batches.model import MOST_TROUBLES, PAGE, Batch, BatchState, Item
from rolehost.jobs.batches.table import BatchTable
from rolehost.jobs.cancellation import cancel
from rolehost.jobs.job import JobState
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import BlobFacts, Stores
from rolehost.telemetry import emit

ZIP = "application/zip"
_REASON = "its batch was cancelled"
_AT_ONCE = 16


async def finish(stores: Stores, batch: Batch) -> None:
    """Every item has ended: make the job that follows, if one does, and say that the batch is done.

    Raises:
        VersionMismatchError: somebody else was faster, or cancelled it.
        StoreError: nobody answers: finishing again goes on.
    """
    if batch.asked.then is not None and batch.counts.get(JobState.COMPLETED):
        facts = await _zip_as_input(stores, batch)
        item = Item(
            id=batch.then_id,
            name=f"{safe_name(batch.name)}.zip",
            folder="",
            size=facts.size,
            type=ZIP,
            parameters=batch.asked.then.parameters,
        )
        await place(stores, spec_of(batch, item, kind=batch.asked.then.kind))
    now = clock.now()
    await BatchTable(stores).write(batch, state=BatchState.DONE, ended_at=now, as_of=now)
    emit("batch.done", batch=batch.id, name=batch.asked.name, **batch.counts)


async def _zip_as_input(stores: Stores, batch: Batch) -> BlobFacts:
    """The ZIP of the results, as the input of the job that follows; made once, whoever makes it."""
    blob = input_blob(batch.id, batch.then_id)
    with suppress(NotFoundError):
        return await stores.blobs.facts(blob)
    with tempfile.TemporaryDirectory(prefix="rolehost-batch-") as folder:
        path = Path(folder, "results.zip")
        async with aclosing(results_zip(stores, batch)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(_append, path, piece)
        with suppress(AlreadyExistsError):
            return await stores.blobs.put(blob, path)
    return await stores.blobs.facts(blob)


def _append(path: Path, piece: bytes) -> None:
    with path.open("ab") as file:
        file.write(piece)


async def finish_cancel(stores: Stores, batch: Batch) -> None:
    """Cancel every job that there is, see to it that no other comes, and count.

    Raises:
        VersionMismatchError: somebody else was faster.
        StoreError: nobody answers: cancelling again goes on.
    """
    table = BatchTable(stores)
    total = batch.items if batch.items is not None else await table.manifest(batch.id).close()
    items = [
        (number * PAGE + offset, item)
        for number in batch.pages
        for offset, item in enumerate(await table.manifest(batch.id).page(number))
    ]
    ids = [item.id for at, item in items if at < batch.begun] + ([batch.then_id] if batch.asked.then else [])
    for start in range(0, len(ids), _AT_ONCE):
        await asyncio.gather(*(_stop(stores, job) for job in ids[start : start + _AT_ONCE]))
    ends = await _ends(stores, [each for each in items if each[0] < batch.begun], batch)
    counts = Counter(batch.counts) + Counter(end.state for end in ends)
    counts[JobState.CANCELLED] += total - batch.begun
    troubles = tuple(end.trouble for end in ends if end.trouble and end.state != JobState.CANCELLED)
    now = clock.now()
    await table.write(
        batch,
        state=BatchState.CANCELLED,
        ended_at=now,
        as_of=now,
        items=total,
        pages=(),
        counts=dict(counts),
        seen={},
        troubles=(*batch.troubles, *troubles)[:MOST_TROUBLES],
        seen_troubles=(),
    )
    emit("batch.cancelled", batch=batch.id, name=batch.asked.name, **counts)


async def _stop(stores: Stores, job: str) -> None:
    """Cancel a job; where there is none yet, a tombstone keeps a driver's late hand from making it."""
    jobs = JobTable(stores.table(TABLE))
    while True:
        try:
            await cancel(jobs, job, reason=_REASON)
        except InvalidParameterError:
            return  # it is over
        except UnknownJobError:
            if await jobs.bury(job):
                return
            continue  # it just came
        return


async def _ends(stores: Stores, items: Sequence[tuple[int, Item]], batch: Batch) -> list[ItemEnd]:
    """How items ended that were let in, or were about to be."""
    jobs = JobTable(stores.table(TABLE))
    ends: list[ItemEnd] = []
    for start in range(0, len(items), _AT_ONCE):
        some = items[start : start + _AT_ONCE]
        for (at, item), job in zip(some, await asyncio.gather(*(jobs.read(item.id) for _, item in some)), strict=True):
            never = job is None and at >= batch.placed
            ends.append(ItemEnd(JobState.CANCELLED, None) if never else end_of(item, job))
    return ends
