"""Waiting for jobs by looking at their rows: soon at first, then less often, at most a fifth of the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from rolehost import clock
from rolehost.jobs.job import Job, JobState
from rolehost.jobs.table import JobTable

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.1, 1.0, 1.3
_SHARE = 4  # pauses for four times as long as a look took
# Up to so many are read one by one; more are looked for in the lists of open jobs.
FEW = 32
_PAGE = 500
_OPEN = (JobState.QUEUED, JobState.RUNNING)


class Waiting:
    """The jobs that somebody waits for.

    Args:
        jobs: the table.
        ids: whose end is awaited.
        on_change: called after each look with the number of those that have ended.
        on_job: called instead after a look at the only one that is awaited, while it is open.
    """

    def __init__(
        self,
        jobs: JobTable,
        ids: Iterable[str],
        on_change: Callable[[int], None],
        on_job: Callable[[Job], None] | None = None,
    ) -> None:
        self._jobs = jobs
        self._on_change = on_change
        self._on_job = on_job
        self._open = dict.fromkeys(ids)
        self.ended: dict[str, Job | None] = {}

    @property
    def open(self) -> tuple[str, ...]:
        """The ids of the jobs that have not ended, as far as was seen."""
        return tuple(self._open)

    async def run(self, longest: float | None) -> bool:
        """Look until all have ended; False if the time was up before.

        Args:
            longest: seconds; None for as long as it takes.
        """
        deadline = None if longest is None else clock.monotonic() + longest
        pause = _FIRST_PAUSE
        while True:
            began = clock.monotonic()
            open_one = await self._look()
            if self._on_job is not None and open_one is not None and not self.ended:
                self._on_job(open_one)
            else:
                self._on_change(len(self.ended))
            if not self._open:
                return True
            now = clock.monotonic()
            if deadline is not None and now >= deadline:
                return False
            wait = max(pause, _SHARE * (now - began))
            await clock.sleep(wait if deadline is None else min(wait, deadline - now))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)

    async def _look(self) -> Job | None:
        """Take note of the jobs that have ended; one that was removed has ended as None.

        Returns:
            The only one that is awaited, while it is open.
        """
        alone = None
        seen = {} if len(self._open) <= FEW else await self._listed_open()
        suspects = [job_id for job_id in self._open if job_id not in seen]
        for start in range(0, len(suspects), FEW):
            some = suspects[start : start + FEW]
            for job_id, job in zip(some, await asyncio.gather(*map(self._jobs.read, some)), strict=True):
                if job is None or job.state.terminal:
                    del self._open[job_id]
                    self.ended[job_id] = job
                elif len(self._open) == 1:
                    alone = job
        return alone

    async def _listed_open(self) -> Mapping[str, Job]:
        """The open jobs from our oldest on: the cost of the lists follows the open work, not the jobs that ended."""
        oldest = min(self._open)
        queued, running = await asyncio.gather(*(self._list(state, oldest) for state in _OPEN))
        return {job.id: job for job in chain(queued, running)}

    async def _list(self, state: JobState, oldest: str) -> list[Job]:
        found: list[Job] = []
        cursor = None
        while True:
            page = await self._jobs.list(state=state, limit=_PAGE, cursor=cursor)
            found += page.jobs
            if page.cursor is None or page.jobs[-1].id < oldest:
                return found
            cursor = page.cursor
