"""Writes a history for `support.history` while a service works: every change of every row, and what is left at the end.

Stores that don't answer for a while are a part of what is told: the next look finds what the last one missed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, TextIO

from rolehost.errors import StoreError
from rolehost.jobs.job import Job
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Stores
from support.service import Service, command_line, marked

PAGE = 500
MOST_DEAD = 100_000


class Chronicle:
    """One run's events.

    Args:
        file: where each is a line.
        stores: where the jobs are.
        every: seconds from one look at all rows to the next.
    """

    def __init__(self, file: TextIO, stores: Stores, *, every: float = 2.0) -> None:
        self._file = file
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._every = every
        self._told: dict[str, str] = {}
        self._accepted: set[str] = set()
        self._over: set[str] = set()
        self.moved = time.monotonic()
        """When a row last changed."""

    def add(self, event: str, **facts: Any) -> None:
        """Write one down."""
        if event == "accepted":
            self._accepted.add(facts["job"])
        self._file.write(json.dumps({"event": event, "at": time.time(), **facts}) + "\n")
        self._file.flush()

    @property
    def open(self) -> int:
        """How many of the accepted jobs were not over at the last look."""
        return len(self._accepted - self._over)

    @property
    def over(self) -> int:
        """How many jobs were over at the last look."""
        return len(self._over)

    async def watch(self, done: asyncio.Event) -> None:
        """Look again and again; the last look is after `done`, and has to succeed."""
        last = False
        while not last:
            last = done.is_set()
            with suppress(*(() if last else (StoreError,))):
                await self.look()
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), self._every)

    async def look(self) -> None:
        """Write down every row that has changed since the last look."""
        async for job in self._all():
            if self._told.get(job.id) != job.version:
                self._told[job.id] = job.version
                self.moved = time.monotonic()
                self.add("row", job=job.to_json(), blob=job.result.blob if job.result else None)
            if job.state.terminal:
                self._over.add(job.id)

    async def _all(self) -> AsyncIterator[Job]:
        cursor = None
        while True:
            page = await self._jobs.list(limit=PAGE, cursor=cursor)
            for job in page.jobs:
                yield job
            cursor = page.cursor
            if cursor is None:
                return

    async def leave(self, service: Service, kinds: Sequence[str], *, lease: float) -> None:
        """Collect what nobody names, and write down what is left then.

        Args:
            service: it has ended.
            kinds: of its jobs.
            lease: as its workers have it.
        """
        recovery = Recovery(self._stores, lease=lease)
        for _ in range(3 + len(self._told) // 100):
            await recovery.sweep()
        results = {name: (await self._stores.blobs.facts(name)).sha256 async for name in self._results()}
        dead = [
            WakeUp.decode(message.body).job
            for kind in kinds
            for message in await self._stores.queue(kind_named(kind).queue).peek(MOST_DEAD, dead=True)
        ]
        processes = [f"{pid} {command_line(pid)[:60]}" for pid in marked(service.data)]
        self.add("left", results=results, dead=dead, scratch=service.scratch(), processes=processes)

    async def _results(self) -> AsyncIterator[str]:
        cursor = None
        while True:
            page = await self._stores.blobs.list("results/", cursor=cursor)
            for name in page.names:
                yield name
            cursor = page.cursor
            if cursor is None:
                return
