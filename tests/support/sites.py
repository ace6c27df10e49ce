"""A worker whose jobs are at URLs and in lent blobs, beside servers that it may ask and one that it may not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rolehost.jobs.job import End, Job, JobState
from rolehost.jobs.sources import SourceSettings
from rolehost.jobs.submission import Submission, Submitter
from rolehost.outbound import Outbound
from support.canary import Net
from support.jobs import KIND, Bench, succeed


class Site:
    """A bench whose worker fetches by the net's rules, with names that mean what the test says."""

    def __init__(self, bench: Bench, net: Net) -> None:
        self.bench = bench
        self.net = net
        self.allow()

    def allow(self, **more: Any) -> None:
        """Other settings than the usual ones."""
        rules = self.net.rules
        facts = {"hosts": ("*",), "networks": rules.networks, "schemes": rules.schemes, "ports": rules.ports}
        settings = SourceSettings(**{**facts, "deadline": 2.0, "most_bytes": 100_000, "blobs": ("assets/",), **more})
        self.bench.desk = replace(
            self.bench.desk,
            settings=replace(self.bench.desk.settings, sources=settings),
            outbound=Outbound(settings.rules(), self.net.look_up),
        )

    async def submitted(self, **more: Any) -> Job:
        """A job in the queue; nothing of its source was checked."""
        return await Submitter(self.bench.inner).submit(Submission(**{"kind": KIND, **more}))

    async def run(self, *urls: str, **more: Any) -> Sequence[Job]:
        """One attempt for each of these jobs, all of them at a time."""
        jobs = [await self.submitted(url=url, **more) for url in urls]
        await asyncio.gather(*(self.bench.process(succeed) for _ in urls))
        return [await self.bench.row(job.id) for job in jobs]

    async def one(self, url: str, **more: Any) -> Job:
        """One attempt for one job."""
        (job,) = await self.run(url, **more)
        return job

    def refused(self, jobs: Sequence[Job]) -> set[str]:
        """Why jobs failed: each at once, uncharged, with no connection to the canary."""
        for job in jobs:
            assert (job.state, job.attempts[-1].end) == (JobState.FAILED, End.BAD_INPUT), job.spec.source.url
        assert self.net.canary.connections == 1
        return {job.reason for job in jobs}
