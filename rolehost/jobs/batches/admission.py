"""Making an item a job: its row and message, under the id that is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from rolehost import clock
from rolehost.errors import AlreadyExistsError
from rolehost.jobs.batches.model import Batch, Item
from rolehost.jobs.job import JobSpec, Source
from rolehost.jobs.submission import first_row
from rolehost.stores import Stores
from rolehost.telemetry import emit

AT_ONCE = 16


def input_blob(batch: str, job: str) -> str:
    """Where the input of an item is; its last segment tells the garbage collection whom to ask."""
    return f"inputs/{job}/{batch}"


def spec_of(batch: Batch, item: Item, *, kind: str = "") -> JobSpec:
    """The job that an item becomes.

    Args:
        batch: whose item it is.
        item: the item.
        kind: of the job; empty: the batch's.
    """
    blob = input_blob(batch.id, item.id)
    return JobSpec(
        id=item.id,
        kind=kind or batch.asked.kind,
        submitted_at=clock.now(),
        parameters=item.parameters,
        source=Source(name=item.name, size=item.size, type=item.type, blob=blob),
        batch=batch.id,
        webhook=batch.asked.webhook,
        priority=batch.asked.priority,
    )


async def place(stores: Stores, spec: JobSpec) -> None:
    """Submit a job under its reserved id; that it is there already is no error.

    Raises:
        StoreError: nobody knows whether it is there now: placing it again finds out.
    """
    with suppress(AlreadyExistsError):
        await stores.submit(first_row(spec))
        emit("job.submitted", job=spec.id, kind=spec.kind, bytes=spec.source.size, batch=spec.batch)


async def place_all(stores: Stores, specs: Iterable[JobSpec]) -> None:
    """Place several at once, in their order as far as that can be.

    Raises:
        StoreError: one could not be placed; the others were, or not.
    """
    waiting = iter(specs)

    async def work() -> None:
        for spec in waiting:
            await place(stores, spec)

    results = await asyncio.gather(*(work() for _ in range(AT_ONCE)), return_exceptions=True)
    for error in results:
        if error is not None:
            raise error
