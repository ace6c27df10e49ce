"""How long jobs are kept when they are over; what goes, goes in the order message, blobs, row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import VersionMismatchError
from rolehost.jobs.batches.retention import Holds, remove_batches
from rolehost.jobs.job import JobState
from rolehost.jobs.removal import remove_job
from rolehost.jobs.submission import KEY_KEPT, KEYS
from rolehost.jobs.table import TABLE, JobTable
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolehost.stores import Stores

PAGE = 100
"""Rows that a pass looks at in each state, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """For each terminal state the time from a job's end to its removal; None: it is kept.

    Args:
        completed: with its result.
        failed: kept by default: a person may replay it.
        poisoned: the same.
        cancelled: nothing is left to be done with it.
    """

    completed: timedelta | None = timedelta(days=7)
    failed: timedelta | None = None
    poisoned: timedelta | None = None
    cancelled: timedelta | None = timedelta(days=7)

    def by_state(self) -> Mapping[JobState, timedelta]:
        """The states whose jobs go."""
        rules = {
            JobState.COMPLETED: self.completed,
            JobState.FAILED: self.failed,
            JobState.POISONED: self.poisoned,
            JobState.CANCELLED: self.cancelled,
        }
        return {state: kept for state, kept in rules.items() if kept is not None}


class Retention:
    """Removes what is due, a page of each kind in a pass.

    Args:
        stores: where the jobs are.
        rules: how long they are kept.
    """

    def __init__(self, stores: Stores, rules: RetentionRules) -> None:
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._rules = rules
        self._keys_from: str | None = None
        self._from: dict[JobState, str] = {}

    async def apply(self) -> None:
        """One pass."""
        for state, kept in self._rules.by_state().items():
            await self._apply(state, kept)
        await remove_batches(self._stores, self._rules.by_state(), limit=PAGE)
        await self._forget_keys()
        await self._jobs.forget_buried(clock.now() - 2 * KEY_KEPT, limit=PAGE)

    async def _apply(self, state: JobState, kept: timedelta) -> None:
        """Jobs of a batch go when it has been over for so long: its results are fetched as one. Others don't wait."""
        cursor = self._from.pop(state, None)
        page = await self._jobs.list(state=state, limit=PAGE, cursor=cursor, newest_first=False)
        holds, held = Holds(self._stores), False
        for job in page.jobs:
            if job.finished_at is not None and clock.now() - job.finished_at > kept:
                if await holds.job(job.spec.batch, kept):
                    held = True
                else:
                    await self._remove(job.id)
        if (held or cursor is not None) and page.cursor is not None:
            self._from[state] = page.cursor

    async def _remove(self, job_id: str) -> None:
        job = await self._jobs.read(job_id)
        if job is None:
            return
        try:
            await remove_job(self._stores, job)
        except VersionMismatchError:  # another sweeper was faster
            return
        emit("job.retired", job=job_id, state=job.state)

    async def _forget_keys(self) -> None:
        """Idempotency keys whose time is over."""
        keys = self._stores.table(KEYS)
        page = await keys.list(limit=PAGE, cursor=self._keys_from)
        self._keys_from = page.cursor
        for row in page.rows:
            if clock.now() - clock.from_iso(str(row.fields["made_at"])) > KEY_KEPT:
                try:
                    await keys.delete(row.key, row.version)
                except VersionMismatchError:
                    continue
