"""The poison desk: what was set aside, replaying it as a new job, and purging it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost.errors import InvalidParameterError, UnknownJobError
from rolehost.jobs.job import Job, JobState, new_id
from rolehost.jobs.removal import remove_job
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobPage, JobTable
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.stores import Stores

REPLAYABLE = frozenset({JobState.POISONED, JobState.FAILED})


class PoisonDesk:
    """What a person does with jobs that ended badly.

    Args:
        stores: where the jobs are.
        submitter: the process's own, if it has one.
    """

    def __init__(self, stores: Stores, submitter: Submitter | None = None) -> None:
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._submitter = submitter or Submitter(stores)

    async def list(self, *, limit: int = 50, cursor: str | None = None) -> JobPage:
        """Poisoned jobs, the newest first."""
        return await self._jobs.list(state=JobState.POISONED, limit=limit, cursor=cursor)

    async def replay(self, job_id: str) -> Job:
        """Submit a poisoned or failed job again, as a new job with its own copy of the input.

        The new job names its origin; the old row never changes.

        Raises:
            UnknownJobError: no job has this id.
            InvalidParameterError: the job did not end badly.
        """
        job = await self._ended_badly(job_id)
        with tempfile.TemporaryDirectory(prefix="rolehost-replay-") as folder:
            copy = Path(folder) / "source"
            await self._stores.blobs.download(job.spec.source.blob, copy)
            again = Submission(
                path=copy,
                name=job.spec.source.name,
                kind=job.spec.kind,
                origin=job.id,
                batch=job.spec.batch,
            )
            new = await self._submitter.place(again, new_id(), job.spec.parameters, job.spec.source.type)
        emit("job.replayed", job=new.id, origin=job.id)
        return new

    async def purge(self, job_id: str) -> None:
        """Remove a poisoned or failed job for good: message, blobs, row, in that order.

        Raises:
            UnknownJobError: no job has this id.
            InvalidParameterError: the job did not end badly.
        """
        job = await self._ended_badly(job_id)
        await remove_job(self._stores, job)
        emit("job.purged", job=job_id)

    async def _ended_badly(self, job_id: str) -> Job:
        job = await self._jobs.read(job_id)
        if job is None:
            raise UnknownJobError(f"no job has the id {job_id}")
        if job.state not in REPLAYABLE:
            raise InvalidParameterError(
                f"job {job_id} is {job.state}; only a poisoned or failed job can be replayed or purged", field="id"
            )
        return job
