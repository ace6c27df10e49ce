"""Blobs that no row names: results of attempts that lost, inputs of submissions that never became a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from rolehost import clock
from rolehost.failpoints import failpoint
from rolehost.jobs.batches.retention import waits_in_batch
from rolehost.jobs.submission import KEY_KEPT
from rolehost.jobs.table import TABLE, JobTable
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.jobs.job import Job
    from rolehost.stores import Stores

PAGE = 100
"""Names that a pass looks at under each prefix: the cost of a pass does not follow the size of the store."""
OLD_INPUT = KEY_KEPT + timedelta(hours=1)
"""A repeated request may finish the submission of an input for as long as its idempotency key is kept."""


class GarbageCollection:
    """Looks at a page of blobs in each pass, and goes on from there in the next.

    Args:
        stores: where the blobs and the rows are.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._cursors: dict[str, str | None] = {}

    async def collect(self) -> None:
        """One pass."""
        for name in await self._some("results/"):
            if await self._is_unnamed_result(name):
                await self._drop(name)
        for name in await self._some("inputs/"):
            if await self._is_orphaned_input(name):
                await self._drop(name)

    async def _some(self, prefix: str) -> list[str]:
        page = await self._stores.blobs.list(prefix, limit=PAGE, cursor=self._cursors.get(prefix))
        self._cursors[prefix] = page.cursor
        return list(page.names)

    async def _is_unnamed_result(self, name: str) -> bool:
        """Judged by the row, which is read *after* the listing: one that was read before proves nothing."""
        parts = name.split("/")
        if len(parts) != 4:  # noqa: PLR2004 - results/<job>/<attempt>-<token>/<name>
            return False
        job = await self._jobs.read(parts[1])
        if job is None:
            return True
        if job.result is not None and job.result.blob == name:
            return False
        return job.state.terminal or not _is_running(job, parts[2])

    async def _is_orphaned_input(self, name: str) -> bool:
        """An old input without a row; a tombstone takes the row's place first, so that no late submitter gets it."""
        _, job_id, last = name.split("/")
        made = _made_at(job_id)
        if made is None or clock.now() - made < OLD_INPUT or await self._jobs.read(job_id) is not None:
            return False
        if await waits_in_batch(self._stores, last):
            return False
        return await self._jobs.bury(job_id)

    async def _drop(self, name: str) -> None:
        await failpoint("before-collect", name.split("/")[1])
        await self._stores.blobs.delete(name)
        emit("blob.collected", blob=name)


def _is_running(job: Job, folder: str) -> bool:
    """Whether the folder `<attempt>-<token>` is that of the attempt which holds the lease."""
    return bool(job.token) and folder.partition("-")[2] == job.token


def _made_at(job_id: str) -> datetime | None:
    """When an id was made: ours are UUIDs of version 7, which begin with it."""
    try:
        value = UUID(job_id)
    except ValueError:
        return None
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)
