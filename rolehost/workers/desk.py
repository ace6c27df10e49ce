"""What every step of a job's pipeline needs, made once by the worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolehost.workers.levels import Levels
from rolehost.workers.store_health import StoreHealth

if TYPE_CHECKING:
    from rolehost.jobs.job import JobSpec
    from rolehost.jobs.table import JobTable
    from rolehost.jobs.webhooks import Webhooks
    from rolehost.outbound import Outbound
    from rolehost.stores import Inbox, Stores
    from rolehost.workers.settings import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The stores and settings of one worker in one process.

    Args:
        stores: where blobs and rows are.
        jobs: the jobs table.
        queue: the queue of the worker's kind of job, or of all its levels.
        settings: leases, budgets and pauses.
        instance: the role instance's id, as attempts record it.
        draining: set when the worker was told to stop: nothing more is claimed.
        interrupt: set when the drain time is over: what still runs is stopped and given back.
        health: hears of every error of the stores.
        webhooks: tells others of a job's end, beside the work; None: recovery does.
        outbound: fetches sources; None: by the settings' rules.
    """

    stores: Stores
    jobs: JobTable
    queue: Inbox
    settings: WorkerSettings
    instance: str
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    interrupt: asyncio.Event = field(default_factory=asyncio.Event)
    health: StoreHealth = field(default_factory=StoreHealth)
    webhooks: Webhooks | None = None
    outbound: Outbound | None = None

    def tell(self, spec: JobSpec) -> None:
        """A terminal state was written: its webhook goes out, if there is one."""
        if spec.webhook and self.webhooks is not None:
            self.webhooks.soon(spec.id)

    @property
    def near(self) -> bool:
        """Whether the stores are on this machine, as their capabilities show: a call more costs next to nothing."""
        return self.queue.capabilities.rewrites_body and self.queue.capabilities.waits

    async def receive_no_more(self) -> None:
        """Give back what was received and not heard of."""
        if isinstance(self.queue, Levels):
            await self.queue.end()

    @property
    def ahead(self) -> float:
        """Seconds of work that is fetched ahead."""
        lease = self.settings.lease
        return self.queue.ahead(lease) if isinstance(self.queue, Levels) else lease / 4

    @property
    def hiding(self) -> float:
        """Seconds that a message is hidden when it is received.

        Half a lease where messages can be marked: before that is over the message is hidden for a whole one, marked
        with what the claim wrote. A job whose worker died before the mark is met again after half a lease, and taken
        over one later. Elsewhere a lease: a broker's lock ends by itself with who held it.
        """
        return self.settings.lease / 2 if self.queue.capabilities.rewrites_body else self.settings.lease
