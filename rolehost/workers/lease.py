"""The lease on a job's row, renewed while the attempt runs.

No error ends it: only the row proves that a lease is lost (another token, terminal, gone). A refused message receipt
means only that the wake-up is no longer ours. Trust ends a margin before the lease does, counted from the moment the
last good renewal was *sent*.

What the attempt tells of its progress goes the same way, for only one hand may write the row: with each renewal, and
between two of them as often as the stores' distance allows. It is no renewal: trust and the message's mark stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Self

from rolehost import clock
from rolehost.errors import ReceiptMismatchError, StoreError, StoreThrottledError, VersionMismatchError
from rolehost.failpoints import failpoint
from rolehost.jobs.job import JobState
from rolehost.jobs.wake_up import WakeUp
from rolehost.telemetry import emit
from rolehost.workers.polling import at_least_as_asked
from rolehost.workers.progress import Meter, Progress
from rolehost.workers.store_health import MOST_PATIENCE

if TYPE_CHECKING:
    from types import TracebackType

    from rolehost.jobs.table import Claim
    from rolehost.stores import QueueMessage
    from rolehost.workers.desk import Desk

# The first mark in the message lets a killed worker's job be claimed after one lease instead of one and a half. Short
# jobs never pay for it.
FIRST_MARK = 0.5
# Where the stores are on this machine a look at the row costs next to nothing: a job that is cancelled stops soon.
LOOK_EVERY = 1.0
# Progress takes the place of such a look. Elsewhere each write is a request over a network: a twelfth of the lease
# makes three between two renewals, and people see something move; seconds, whatever the lease is.
PROGRESS_OF_LEASE, MOST_BETWEEN = 1 / 12, 5.0
LEAST_RISE = 0.5


class LeaseEnd(Enum):
    """Why the right to write about a job is over."""

    LOST = "lost"
    """The row proves it: write nothing more."""
    EXPIRED = "expired"
    """No renewal succeeded before the margin: write only the attempt's own end."""


def tell_end(claim: Claim, how: str, *, cancelled: bool) -> None:
    """Say that a lease is over: a person's cancel is nothing to be warned of."""
    event = "attempt.cancelled" if cancelled else "lease.lost"
    emit(event, job=claim.spec.id, attempt=claim.attempt.number, how=how)


class LeaseKeeper:
    """Renews a claim in the background, from `async with` to `stop`.

    Args:
        desk: the worker's stores and settings.
        claim: the claim to keep.
        message: the message that woke us; `message` becomes None once it is no longer ours.
        meter: how far the attempt has come.
    """

    def __init__(self, desk: Desk, claim: Claim, message: QueueMessage, meter: Meter | None = None) -> None:
        self._desk = desk
        self.claim = claim
        self.message: QueueMessage | None = message
        self.ended: LeaseEnd | None = None
        self._over = asyncio.Event()
        self._closing = asyncio.Event()
        self._meter = meter or Meter()
        self._told = -LEAST_RISE
        self._silent_until = 0.0
        self._failures = 0
        self._asked_for = 0.0
        self._cancelled = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep(), name=f"lease of {self.claim.spec.id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._task.cancel()
        await asyncio.wait([self._task])

    async def over(self) -> LeaseEnd:
        """Wait until the lease is lost or expired."""
        await self._over.wait()
        return self.ended or LeaseEnd.EXPIRED

    async def stop(self) -> Claim:
        """Renew no more; a renewal that is on its way is awaited, so that the claim's version is the latest."""
        self._closing.set()
        await asyncio.wait([self._task], timeout=self._desk.settings.margin)
        return self.claim

    @property
    def lost(self) -> bool:
        """Whether the row proved that the lease is somebody else's: nothing more may be written."""
        return self.ended is LeaseEnd.LOST

    @property
    def _trusted_until(self) -> float:
        return self.claim.sent + self._desk.settings.lease - self._desk.settings.margin

    @property
    def _first_mark(self) -> float:
        """Seconds before the message is marked: later where that is a request which is billed."""
        after = self._desk.settings.renew_after
        return min(FIRST_MARK, after / 2) if self._desk.near else after / 4

    async def _keep(self) -> None:
        """Mark, then renew, until stopped, lost or expired."""
        if not await self._pause(self._first_mark):
            return
        if self._desk.queue.capabilities.rewrites_body:
            await self._try(self._renew_message, self._desk.settings.renew_after)
        while await self._wait_for(self._next_renewal()):
            if self.ended is None:
                await self._try(self._renew, self._trusted_until - clock.monotonic())
            if self.ended is None and clock.monotonic() >= self._trusted_until:
                self.ended = LeaseEnd.EXPIRED
            if self.ended is not None:
                tell_end(self.claim, self.ended.value, cancelled=self._cancelled)
                self._over.set()
                return

    @property
    def _step(self) -> float:
        """Seconds after which there may be something to do before the next renewal."""
        if self._desk.near:
            return LOOK_EVERY
        return min(max(self._desk.settings.lease * PROGRESS_OF_LEASE, LOOK_EVERY), MOST_BETWEEN)

    async def _wait_for(self, renewal: float) -> bool:
        """Wait for a renewal; meanwhile tell of progress, or look at the row where that is cheap.

        Returns:
            False if the keeper was stopped.
        """
        while clock.monotonic() + self._step < renewal:
            if not await self._pause(self._step):
                return False
            if progress := self._news(renewal):
                await self._try(partial(self._tell, progress), renewal - clock.monotonic())
                if self._failures:
                    renewal = self._next_renewal()
            elif self._desk.near:
                await self._look()
            if self.ended is not None:
                return True
        return await self._pause(renewal - clock.monotonic())

    def _news(self, renewal: float) -> Progress | None:
        """Progress that is worth a write of its own: not just before a renewal, nor while the stores are troubled."""
        progress, moment = self._meter.now, clock.monotonic()
        if progress is None or progress.percent - self._told < LEAST_RISE:
            return None
        quiet = self._failures or moment < self._silent_until or moment + self._step / 2 > renewal
        return None if quiet else progress

    async def _look(self) -> None:
        """See whether the row is still ours; an error proves nothing."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._read_row()

    def _next_renewal(self) -> float:
        """A third of the lease after the last good one was sent; half as long after each failure in a row."""
        if not self._failures:
            return self.claim.sent + self._desk.settings.renew_after
        soon = max(self._desk.settings.renew_after * 0.5**self._failures, self._desk.settings.lease / 60)
        # What a store asks for is granted, but not beyond the end of the trust: then there is one last try.
        return min(clock.monotonic() + max(soon, self._asked_for), self._trusted_until)

    async def _pause(self, seconds: float) -> bool:
        """Wait; False if the keeper was stopped meanwhile."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), max(0.0, seconds))
        return not self._closing.is_set()

    async def _try(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Make a step, and take no longer; whatever the stores do, the next renewal follows."""
        try:
            async with asyncio.timeout(max(0.01, seconds)):
                await step()
        except (StoreError, TimeoutError) as error:
            self._failures += 1
            self._asked_for = at_least_as_asked(error, 0.0, MOST_PATIENCE)
            if isinstance(error, StoreThrottledError):  # what is no need waits until a lease has passed
                self._silent_until = clock.monotonic() + self._desk.settings.lease
            self._desk.health.failed("lease renewal", error, job=self.claim.spec.id)

    async def _renew(self) -> None:
        """One renewal of the row, then of the message."""
        await failpoint("before-renew", self.claim.spec.id)
        told = self._meter.now
        news = told if told is not None and told.percent > self._told else None
        shown = news.to_json() if news else None
        if not await self._written(self._desk.jobs.renew(self.claim, lease=self._desk.settings.lease, progress=shown)):
            return
        self._failures = 0
        emit("lease.renewed", job=self.claim.spec.id, attempt=self.claim.attempt.number)
        self._tell_of(news)
        await failpoint("after-renew", self.claim.spec.id)
        await self._renew_message()

    async def _tell(self, progress: Progress) -> None:
        """Progress between two renewals."""
        if await self._written(self._desk.jobs.tell_progress(self.claim, progress.to_json())):
            self._tell_of(progress)

    async def _written(self, write: Awaitable[Claim]) -> bool:
        """A write of the row; False if it was refused, and the row was read."""
        try:
            self.claim = await write
        except VersionMismatchError:
            await self._read_row()
            return False
        except StoreThrottledError:
            raise  # nothing was applied, and reading the row would be one request more
        except StoreError:
            await self._read_row()
            raise
        return True

    def _tell_of(self, progress: Progress | None) -> None:
        """It is in the row; an event for each quarter."""
        if progress is None:
            return
        if progress.percent // 25 > self._told // 25:
            facts = {"job": self.claim.spec.id, "attempt": self.claim.attempt.number}
            emit("job.progressed", **facts, **progress.to_json())
        self._told = progress.percent

    async def _read_row(self) -> None:
        """A write was refused, or got no answer: the row tells whose it is."""
        job = await self._desk.jobs.read(self.claim.spec.id)
        if job is None or job.token != self.claim.token:
            self.ended = LeaseEnd.LOST
            self._cancelled = job is not None and job.state is JobState.CANCELLED
        else:
            self.claim = replace(self.claim, version=job.version, renewal=job.renewal)

    async def _renew_message(self) -> None:
        """Hide the message for a lease more, with the version of the row's latest renewal as `seen`."""
        if self.message is None:
            return
        seen = WakeUp(job=self.claim.spec.id, spec=self.claim.spec, seen=self.claim.held_since)
        body = seen.encode() if self._desk.queue.capabilities.rewrites_body else None
        try:
            self.message = await self._desk.queue.renew(self.message, hide=self._desk.settings.lease, body=body)
        except ReceiptMismatchError:
            self.message = None
