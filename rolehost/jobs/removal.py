"""A job that is over goes for good: its dead letters, its blobs, what is known of its replays, and last its row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolehost.errors import NotAWakeUpError
from rolehost.jobs.job import Job, JobState
from rolehost.jobs.levels import queue_of
from rolehost.jobs.replays import REPLAYS, Replays
from rolehost.jobs.table import DEBT, TABLE, WEBHOOK, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.jobs.webhook_deliveries import DELIVERIES, Deliveries
from rolehost.stores import Note

if TYPE_CHECKING:
    from rolehost.stores import QueueMessage, Stores

_PAGE = 100


async def remove_job(stores: Stores, job: Job) -> None:
    """Remove a job in a terminal state; repeating it after an error finishes what is left.

    Raises:
        VersionMismatchError: the row is gone already.
    """
    if job.state is JobState.POISONED:
        await _remove_letters(stores, job)
        await stores.table(TABLE).drop_note(Note(DEBT, job.id))
    for prefix in (f"inputs/{job.id}/", f"results/{job.id}/", f"logs/{job.id}/"):
        cursor = None
        while True:
            page = await stores.blobs.list(prefix, cursor=cursor)
            for name in page.names:
                await stores.blobs.delete(name)
            if (cursor := page.cursor) is None:
                break
    await Replays(stores.table(REPLAYS)).forget(job.id)
    if job.spec.webhook:
        await stores.table(TABLE).drop_note(Note(WEBHOOK, job.id))
        await Deliveries(stores.table(DELIVERIES)).forget(job.id)
    await JobTable(stores.table(TABLE)).remove(job)


async def _remove_letters(stores: Stores, job: Job) -> None:
    """The job's dead letters, found by their ids (`<job>:...`): the cost does not follow the queue's length."""
    queue = stores.queue(queue_of(job.spec))
    cursor = None
    while True:
        page = await queue.dead(_PAGE, cursor=cursor, prefix=f"{job.id}:")
        for message in page.messages:
            if names(message, job.id):
                await queue.remove_dead(message.id)
        if (cursor := page.cursor) is None:
            return


def names(message: QueueMessage, job_id: str) -> bool:
    """Whether a message is about this job."""
    try:
        return WakeUp.decode(message.body).job == job_id
    except NotAWakeUpError:
        return False
