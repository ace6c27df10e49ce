"""What every step of a job's pipeline needs, made once by the worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolehost.jobs.table import JobTable
    from rolehost.stores import Queue, Stores
    from rolehost.workers.settings import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The stores and settings of one worker in one process.

    Args:
        stores: where blobs and rows are.
        jobs: the jobs table.
        queue: the queue of the worker's kind of job.
        settings: leases, budgets and pauses.
        instance: the role instance's id, as attempts record it.
        draining: set when the worker was told to stop: nothing more is claimed.
        interrupt: set when the drain time is over: what still runs is stopped and given back.
    """

    stores: Stores
    jobs: JobTable
    queue: Queue
    settings: WorkerSettings
    instance: str
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    interrupt: asyncio.Event = field(default_factory=asyncio.Event)
