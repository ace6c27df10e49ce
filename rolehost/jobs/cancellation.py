"""Cancelling a job, queued or running: one conditional write, which the commit of a result may beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolehost.errors import InvalidParameterError, StoreUnavailableError, UnknownJobError, VersionMismatchError
from rolehost.jobs.job import Job, JobState
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.jobs.table import JobTable

TRIES = 6


async def cancel(jobs: JobTable, job_id: str, *, reason: str = "") -> Job:
    """Cancel a job, and record its open attempt's end. Whoever runs it sees that by the next renewal, and stops.

    Args:
        jobs: the jobs table.
        job_id: the job; cancelling it again is no error.
        reason: for people.

    Returns:
        The cancelled job.

    Raises:
        UnknownJobError: no job has this id.
        InvalidParameterError: it is over already, with another state.
        StoreUnavailableError: nobody answers.
    """
    for tried in range(TRIES):
        job = await jobs.read(job_id)
        if job is None:
            raise UnknownJobError(f"no job has the id {job_id}")
        if job.state is JobState.CANCELLED:
            return job
        if job.state.terminal:
            raise InvalidParameterError(f"job {job_id} is {job.state}: it is too late to cancel it", field="id")
        try:
            await jobs.cancel(job, reason=reason)
        except VersionMismatchError:
            continue  # it moved on meanwhile
        except StoreUnavailableError:
            if tried == TRIES - 1:
                raise
            continue  # the row tells whether it was written
        emit("job.cancelled", job=job_id, was=job.state)
    job = await jobs.read(job_id)
    if job is None or job.state is not JobState.CANCELLED:
        raise StoreUnavailableError(f"job {job_id} could not be cancelled: its row kept changing")
    return job
