"""The lease on a job's row, renewed while the attempt runs.

No error ends it: only the row proves that a lease is lost (another token, terminal, gone). A refused message receipt
means only that the wake-up is no longer ours. Trust ends a margin before the lease does, counted from the moment the
last good renewal was *sent*.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Self

from rolehost import clock
from rolehost.errors import ReceiptMismatchError, StoreError, StoreThrottledError, VersionMismatchError
from rolehost.failpoints import failpoint
from rolehost.jobs.job import JobState
from rolehost.jobs.wake_up import WakeUp
from rolehost.telemetry import emit
from rolehost.workers.polling import at_least_as_asked
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
    """

    def __init__(self, desk: Desk, claim: Claim, message: QueueMessage) -> None:
        self._desk = desk
        self.claim = claim
        self.message: QueueMessage | None = message
        self.ended: LeaseEnd | None = None
        self._over = asyncio.Event()
        self._closing = asyncio.Event()
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

    async def _wait_for(self, renewal: float) -> bool:
        """Wait for a renewal, looking at the row meanwhile where that is cheap; False if the keeper was stopped."""
        while self._desk.near and clock.monotonic() + LOOK_EVERY < renewal:
            if not await self._pause(LOOK_EVERY):
                return False
            await self._look()
            if self.ended is not None:
                return True
        return await self._pause(renewal - clock.monotonic())

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
            self._desk.health.failed("lease renewal", error, job=self.claim.spec.id)

    async def _renew(self) -> None:
        """One renewal of the row, then of the message."""
        await failpoint("before-renew", self.claim.spec.id)
        try:
            self.claim = await self._desk.jobs.renew(self.claim, lease=self._desk.settings.lease)
        except VersionMismatchError:
            await self._read_row()
            return
        except StoreThrottledError:
            raise  # nothing was applied, and reading the row would be one request more
        except StoreError:
            await self._read_row()
            raise
        self._failures = 0
        emit("lease.renewed", job=self.claim.spec.id, attempt=self.claim.attempt.number)
        await failpoint("after-renew", self.claim.spec.id)
        await self._renew_message()

    async def _read_row(self) -> None:
        """A write was refused, or got no answer: the row tells whose it is."""
        job = await self._desk.jobs.read(self.claim.spec.id)
        if job is None or job.token != self.claim.token:
            self.ended = LeaseEnd.LOST
            self._cancelled = job is not None and job.state is JobState.CANCELLED
        else:
            self.claim = replace(self.claim, version=job.version)

    async def _renew_message(self) -> None:
        """Hide the message for a lease more, with the row's version as `seen`."""
        if self.message is None:
            return
        seen = WakeUp(job=self.claim.spec.id, spec=self.claim.spec, seen=self.claim.version)
        body = seen.encode() if self._desk.queue.capabilities.rewrites_body else None
        try:
            self.message = await self._desk.queue.renew(self.message, hide=self._desk.settings.lease, body=body)
        except ReceiptMismatchError:
            self.message = None
