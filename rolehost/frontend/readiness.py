"""Whether a front end can take requests: its stores answer, and its spool has room for an upload."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from rolehost import clock
from rolehost.errors import RoleEnvironmentError, StoreError
from rolehost.frontend.views import human_size
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from pathlib import Path

    from rolehost.environment import RoleEnvironment
    from rolehost.jobs.table import JobTable

LOOK_EVERY = 5.0
PATIENCE = 3.0
FLOOR = 16 * 1024 * 1024
MOST_FAILURES = 2
"""One error is a hiccup."""


class Readiness:
    """Looks now and then, and says through the instance's status what is wrong: `/readyz` is 503 then, with the reason.

    Args:
        jobs: where the stores are asked.
        spool: where uploads wait.
        floor: bytes that have to be free there.
    """

    def __init__(self, jobs: JobTable, spool: Path, floor: int = FLOOR) -> None:
        self._jobs = jobs
        self._spool = spool
        self._floor = floor
        self._failures = 0
        self.trouble = ""

    async def look(self) -> str:
        """What is wrong now, in a sentence; empty if nothing is."""
        self.trouble = await self._stores() or await asyncio.to_thread(self._disk)
        return self.trouble

    @asynccontextmanager
    async def watched(self, environment: RoleEnvironment) -> AsyncIterator[None]:
        """Look for as long as the block lasts.

        Args:
            environment: whose instance is busy while something is wrong.
        """
        watching = asyncio.create_task(self._watch(environment))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self, environment: RoleEnvironment) -> NoReturn:
        told = ""
        while True:
            before, told = told, await self.look()
            if before != told:
                emit("frontend.troubled" if told else "frontend.recovered", why=told or before)
            if told or before:
                with suppress(RoleEnvironmentError):  # no host: the probes ask the stores themselves
                    environment.report_trouble(told, 3 * (LOOK_EVERY + PATIENCE))
            await clock.sleep(LOOK_EVERY)

    async def _stores(self) -> str:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._jobs.counts()
        except (StoreError, TimeoutError) as error:
            self._failures += 1
            why = str(error) or "no answer"
            return f"degraded: the stores do not answer: {why}" if self._failures >= MOST_FAILURES else self.trouble
        self._failures = 0
        return ""

    def _disk(self) -> str:
        try:
            free = shutil.disk_usage(self._spool).free
        except OSError as error:
            return f"degraded: the spool {self._spool} can't be used: {error.strerror}"
        if free >= self._floor:
            return ""
        return (
            f"degraded: the disk of {self._spool} has {human_size(free)} free, and {human_size(self._floor)} are needed"
        )
