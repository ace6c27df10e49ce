"""A job that is over goes for good: its dead letters, then its blobs, then its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolehost.errors import NotAWakeUpError
from rolehost.jobs.job import Job, JobState
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.table import DEBT, TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Note

if TYPE_CHECKING:
    from rolehost.stores import QueueMessage, Stores

PEEKED = 1000


async def remove_job(stores: Stores, job: Job) -> None:
    """Remove a job in a terminal state; repeating it after an error finishes what is left.

    Raises:
        VersionMismatchError: the row is gone already.
    """
    if job.state is JobState.POISONED:
        queue = stores.queue(kind_named(job.spec.kind).queue)
        for message in await queue.peek(PEEKED, dead=True):
            if names(message, job.id):
                await queue.remove_dead(message.id)
        await stores.table(TABLE).drop_note(Note(DEBT, job.id))
    for prefix in (f"inputs/{job.id}/", f"results/{job.id}/", f"logs/{job.id}/"):
        for name in (await stores.blobs.list(prefix)).names:
            await stores.blobs.delete(name)
    await JobTable(stores.table(TABLE)).remove(job)


def names(message: QueueMessage, job_id: str) -> bool:
    """Whether a message is about this job."""
    try:
        return WakeUp.decode(message.body).job == job_id
    except NotAWakeUpError:
        return False
