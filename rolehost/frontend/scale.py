"""What waits and what runs, for whoever decides how many workers there are: KEDA, a script, a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rolehost import clock
from rolehost.jobs.job import JobState

if TYPE_CHECKING:
    from rolehost.jobs.table import JobTable

LOOKED_AT = 200
"""So many of the oldest queued jobs are looked at; beyond them all count as runnable, which scales up, never down."""


async def backlog(jobs: JobTable) -> dict[str, Any]:
    """How many jobs could be claimed now, how many run, and how long the oldest of the first has waited.

    A job that waits for its next attempt is not runnable yet: no worker is needed for it. Its cost does not follow the
    number of jobs.

    Raises:
        StoreError: the store says no, or nothing.
    """
    counts = await jobs.counts()
    oldest = await jobs.list(state=JobState.QUEUED, limit=LOOKED_AT, newest_first=False)
    now = clock.now()
    due = [job for job in oldest.jobs if job.retries_at is None or job.retries_at <= now]
    runnable = len(due) if oldest.cursor is None else max(len(due), counts[JobState.QUEUED])
    since = [job.retries_at or job.spec.submitted_at for job in due]
    return {
        "runnable": runnable,
        "in_flight": counts[JobState.RUNNING],
        "oldest_seconds": round(max(0.0, (now - min(since)).total_seconds()), 3) if since else 0.0,
        "at": clock.iso(now),
    }
