"""What may be removed: a batch that is over, by the rules for its jobs; of one that is not, nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from rolehost import clock
from rolehost.errors import VersionMismatchError
from rolehost.jobs.batches.model import Batch, BatchState
from rolehost.jobs.batches.table import BatchTable
from rolehost.jobs.job import JobState
from rolehost.stores import Stores
from rolehost.telemetry import emit


async def waits_in_batch(stores: Stores, batch: str) -> bool:
    """Whether a batch has this id and is not over: its inputs and its jobs are still needed.

    Args:
        stores: where it would be.
        batch: its id, or what stands where one would be.
    """
    try:
        UUID(batch)
    except ValueError:
        return False
    found = await BatchTable(stores).read(batch)
    return found is not None and not found.state.over


class Holds:
    """Which jobs are kept for their batches' sake; asked for many jobs, and remembered for so long.

    Args:
        stores: where the batches are.
    """

    def __init__(self, stores: Stores) -> None:
        self._table = BatchTable(stores)
        self._known: dict[str, Batch | None] = {}

    async def job(self, batch: str | None, kept: timedelta) -> bool:
        """Whether a job of this batch has to stay: the batch is not over, or not over for long enough.

        Args:
            batch: its id; None: the job has none.
            kept: how long a job stays that is over.
        """
        if batch is None:
            return False
        if batch not in self._known:
            self._known[batch] = await self._table.read(batch)
        found = self._known[batch]
        return found is not None and (found.ended_at is None or clock.now() - found.ended_at <= kept)


async def remove_batches(stores: Stores, rules: Mapping[JobState, timedelta], *, limit: int) -> None:
    """Remove batches whose time is over: done ones as completed jobs, cancelled ones as cancelled jobs.

    Args:
        stores: where they are.
        rules: how long jobs are kept when they are over; a state that isn't there: for ever.
        limit: batches of each state that are looked at, the oldest.
    """
    table = BatchTable(stores)
    for state, alike in ((BatchState.DONE, JobState.COMPLETED), (BatchState.CANCELLED, JobState.CANCELLED)):
        if (kept := rules.get(alike)) is None:
            continue
        for batch in await table.over(state, limit=limit):
            if batch.ended_at is not None and clock.now() - batch.ended_at > kept:
                await _remove(table, batch)


async def _remove(table: BatchTable, batch: Batch) -> None:
    try:
        await table.remove(batch)
    except VersionMismatchError:  # another sweeper was faster
        return
    emit("batch.retired", batch=batch.id, name=batch.asked.name, state=batch.state)
