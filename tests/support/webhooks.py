"""What tests of webhooks do around a bench."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from rolehost.jobs.job import Job
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.table import TABLE, WEBHOOK
from rolehost.jobs.webhook_deliveries import Delivery, delivery_of
from rolehost.jobs.webhook_settings import WebhookSettings
from rolehost.jobs.webhooks import Webhooks
from support.jobs import Bench, until
from support.receiver import Receiver


@asynccontextmanager
async def told_by_worker(bench: Bench, settings: WebhookSettings) -> AsyncIterator[Webhooks]:
    """The bench's desk tells others itself."""
    async with Webhooks(bench.stores, settings) as webhooks:
        bench.desk = replace(bench.desk, webhooks=webhooks)
        yield webhooks


async def owed(bench: Bench) -> list[str]:
    """The jobs whose webhooks are owed."""
    return [note.key for note in await bench.inner.table(TABLE).notes(WEBHOOK)]


async def standing(bench: Bench, job: Job) -> Delivery:
    """What is known of a job's webhook."""
    found = await delivery_of(bench.inner, await bench.row(job.id))
    assert found is not None
    return found


async def swept(bench: Bench, settings: WebhookSettings, done: Callable[[], Awaitable[bool]]) -> None:
    """Recovery's passes, by a sweeper that starts without any memory, until something has come true."""
    async with Webhooks(bench.inner, settings) as webhooks:
        recovery = Recovery(bench.inner, lease=2.0, webhooks=webhooks)

        async def pass_and_look() -> bool:
            await recovery.sweep()
            return await done()

        await until(pass_and_look)


async def nothing_owed(bench: Bench) -> bool:
    """Whether none is owed any more."""
    return not await owed(bench)


async def said(bench: Bench, job: Job, why: str) -> bool:
    """Whether this came of the last try."""
    return (await standing(bench, job)).why == why


async def waiting(there: Receiver, count: int) -> bool:
    """Whether so many requests came, answered or not."""
    return there.waiting == count
