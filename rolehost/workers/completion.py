"""Step 5: what an attempt's outcome becomes: the result blob, then the row, then the message.

One function with a branch per outcome. The row is written once, conditionally; an answer that was lost is looked up in
the row before anything else is believed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import (
    AlreadyExistsError,
    InvalidParameterError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    VersionMismatchError,
)
from rolehost.failpoints import failpoint
from rolehost.jobs.job import Attempt, End, Job, JobState, Result
from rolehost.jobs.wake_up import WakeUp
from rolehost.telemetry import emit
from rolehost.workers.claiming import settle_terminal, settled
from rolehost.workers.lease import LeaseEnd, tell_end
from rolehost.workers.outcome import Outcome, plain_suffix
from rolehost.workers.output import ended, keep_log
from rolehost.workers.polling import at_least_as_asked
from rolehost.workers.reasons import DRAINED, budget_spent

if TYPE_CHECKING:
    from rolehost.jobs.table import Claim
    from rolehost.stores import BlobFacts
    from rolehost.workers.desk import Desk
    from rolehost.workers.lease import LeaseKeeper

TRIES = 6
LAST_MOMENT = 0.5  # seconds that an upload still gets once a drain interrupts
Write = Callable[["Claim"], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What an attempt left in the stores, and how it ended now that this was tried."""

    outcome: Outcome
    result: Result | None = None
    log: str = ""


async def complete(desk: Desk, lease: LeaseKeeper, outcome: Outcome) -> None:
    """Record what became of an attempt, and settle its message."""
    kept = await _as_long_as_held(desk, lease, _keep(desk, lease.claim, outcome))
    await lease.stop()
    if lease.lost:
        return
    kept = kept or _Kept(replace(outcome, end=End.DRAINED, detail=DRAINED))
    if lease.ended is LeaseEnd.EXPIRED:
        late = replace(kept.outcome, end=End.LEASE_LOST, detail="the lease ran out before a renewal succeeded")
        kept = replace(kept, outcome=late)
    attempt = ended(lease.claim, kept.outcome, kept.log)
    match attempt.end:
        case End.OK if kept.result is not None:
            await _completed(desk, lease, attempt, kept.result)
        case End.BAD_INPUT:
            await _failed(desk, lease, attempt)
        case _:
            await _again(desk, lease, attempt)


async def _as_long_as_held(desk: Desk, lease: LeaseKeeper, keeping: Coroutine[None, None, _Kept]) -> _Kept | None:
    """What was kept; None if the lease ended first, or a drain that waits no longer."""
    work = asyncio.create_task(keeping)
    stops = [asyncio.create_task(stop) for stop in (lease.over(), _patience(desk))]
    try:
        await asyncio.wait({work, *stops}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        for task in (work, *stops):
            task.cancel()
        await asyncio.gather(work, *stops, return_exceptions=True)


async def _patience(desk: Desk) -> None:
    await desk.interrupt.wait()
    await clock.sleep(LAST_MOMENT)


async def _keep(desk: Desk, claim: Claim, outcome: Outcome) -> _Kept:
    """Upload the result and the log, while the lease is being renewed."""
    result: Result | None = None
    if outcome.end is End.OK and outcome.result is not None:
        try:
            result = await _upload(desk, claim, outcome, outcome.result)
        except StoreFullError as error:
            outcome = replace(outcome, end=End.DISK_FULL, detail=str(error))
        except StoreError as error:
            desk.health.failed("upload", error, job=claim.spec.id)
            outcome = replace(outcome, end=End.STORE_ERROR, detail=str(error))
        except InvalidParameterError as error:  # no regular file any more
            outcome = replace(outcome, end=End.BAD_OUTPUT, detail=str(error))
    return _Kept(outcome, result, await keep_log(desk, claim, outcome))


async def _upload(desk: Desk, claim: Claim, outcome: Outcome, path: Path) -> Result:
    """Named by attempt and token: no late worker can touch what is visible, and nobody can see this before the row."""
    blob = f"results/{claim.spec.id}/{claim.attempt.number}-{claim.token}/result{plain_suffix(path.name)}"
    await failpoint("before-upload", claim.spec.id)
    facts = await _put(desk, blob, path)
    await failpoint("after-upload", claim.spec.id)
    return Result(
        name=outcome.result_name or path.name,
        size=facts.size,
        sha256=facts.sha256,
        type=outcome.result_type,
        blob=blob,
    )


async def _put(desk: Desk, blob: str, path: Path) -> BlobFacts:
    """Put a blob; when no answer comes, again: the name is ours alone, so what is there is what we put."""
    for _ in range(TRIES - 1):
        try:
            return await desk.stores.blobs.put(blob, path)
        except AlreadyExistsError:
            return await desk.stores.blobs.facts(blob)
        except StoreUnavailableError as error:
            await clock.sleep(at_least_as_asked(error, desk.settings.lease / 60, desk.settings.lease))
    return await desk.stores.blobs.put(blob, path)


async def _completed(desk: Desk, lease: LeaseKeeper, attempt: Attempt, result: Result) -> None:
    def write(claim: Claim) -> Awaitable[str]:
        return desk.jobs.complete(claim, attempt, result)

    await failpoint("before-commit", lease.claim.spec.id)
    if await _write(desk, lease, attempt, JobState.COMPLETED, write):
        await failpoint("after-commit", lease.claim.spec.id)
        desk.tell(lease.claim.spec)
        emit("job.completed", job=lease.claim.spec.id, attempt=attempt.number, bytes=result.size)
        await failpoint("before-settle", lease.claim.spec.id)
        await settle_terminal(desk, lease.message, JobState.COMPLETED, "")
        await failpoint("after-settle", lease.claim.spec.id)


async def _failed(desk: Desk, lease: LeaseKeeper, attempt: Attempt) -> None:
    reason = attempt.detail or "the input is at fault"

    def write(claim: Claim) -> Awaitable[str]:
        return desk.jobs.fail(claim, attempt, reason=reason)

    if await _write(desk, lease, attempt, JobState.FAILED, write):
        desk.tell(lease.claim.spec)
        emit("job.failed", job=lease.claim.spec.id, attempt=attempt.number, reason=reason)
        await settle_terminal(desk, lease.message, JobState.FAILED, reason)


async def _again(desk: Desk, lease: LeaseKeeper, attempt: Attempt) -> None:
    """Back to the queue, or to the poison queue when a budget is spent."""
    if reason := _no_more(desk, lease.claim, attempt):
        await _poisoned(desk, lease, attempt, reason)
        return
    delay = _pause(desk, lease.claim, attempt)
    retries_at = clock.now() + timedelta(seconds=delay) if delay else None

    def write(claim: Claim) -> Awaitable[str]:
        return desk.jobs.retry(claim, attempt, retries_at=retries_at)

    if not await _write(desk, lease, attempt, JobState.QUEUED, write):
        return
    emit(
        "attempt.failed" if attempt.end and attempt.end.charged_to else "attempt.put_back",
        job=lease.claim.spec.id,
        attempt=attempt.number,
        end=attempt.end,
        why=attempt.detail,
    )
    claim, message = lease.claim, lease.message
    if message is not None and attempt.end is not None:
        charges = claim.charges.plus(attempt.end)
        body = WakeUp(
            job=claim.spec.id, spec=claim.spec, version=claim.version, attempt=attempt.number, charges=charges
        )
        await settled(desk.queue.release(message, delay=delay, body=body.encode()))


async def _poisoned(desk: Desk, lease: LeaseKeeper, attempt: Attempt, reason: str) -> None:
    def write(claim: Claim) -> Awaitable[str]:
        return desk.jobs.poison(claim.spec.id, claim.version, attempt, reason=reason, spec=claim.spec)

    if await _write(desk, lease, attempt, JobState.POISONED, write):
        desk.tell(lease.claim.spec)
        emit("job.poisoned", job=lease.claim.spec.id, attempt=attempt.number, reason=reason)
        await settle_terminal(desk, lease.message, JobState.POISONED, reason)


def _no_more(desk: Desk, claim: Claim, attempt: Attempt) -> str:
    """Why the job may not be tried again; empty if it may."""
    end = attempt.end
    if end is None or end is End.DRAINED:
        return ""
    if end is End.POISON_NOW:
        return f"poison_now: {attempt.detail}"
    if budget := claim.charges.plus(end).spent:
        return budget_spent(budget, attempt.detail)
    if clock.now() - claim.spec.submitted_at > timedelta(seconds=desk.settings.deadline):
        return f"deadline: the job was still open so long after its submission; at last {attempt.detail}"
    return ""


def _pause(desk: Desk, claim: Claim, attempt: Attempt) -> float:
    """Seconds to the next attempt: none after a drain, else n^4 + 15 with jitter, n the app and resource charges."""
    if attempt.end is None or attempt.end is End.DRAINED:
        return 0.0
    charges = claim.charges.plus(attempt.end)
    pause = (charges.app + charges.resource) ** 4 + desk.settings.retry_base
    return min(pause * random.uniform(0.8, 1.2), desk.settings.retry_max)  # noqa: S311 - jitter, not a secret


async def _write(desk: Desk, lease: LeaseKeeper, attempt: Attempt, wanted: JobState, write: Write) -> bool:
    """The attempt's last row write, with the reading that a refusal or a lost answer needs.

    Returns:
        Whether the row has it; then `lease.claim.version` is the row's.
    """
    for _ in range(TRIES):
        try:
            lease.claim = replace(lease.claim, version=await write(lease.claim))
        except (VersionMismatchError, StoreUnavailableError, StoreFullError) as error:
            try:
                job = await desk.jobs.read(lease.claim.spec.id)
            except StoreUnavailableError as silence:
                await clock.sleep(at_least_as_asked(silence, desk.settings.lease / 60, desk.settings.margin))
                continue
            if job is None or job.token != lease.claim.token:
                return _adopt(lease, job, attempt, wanted)
            lease.claim = replace(lease.claim, version=job.version)
            if not isinstance(error, VersionMismatchError):
                await clock.sleep(at_least_as_asked(error, desk.settings.lease / 60, desk.settings.margin))
        else:
            return True
    return False


def _adopt(lease: LeaseKeeper, job: Job | None, attempt: Attempt, wanted: JobState) -> bool:
    """The row is not ours any more: because our write was applied, or because somebody was faster?"""
    found = next((one for one in job.attempts if one.number == attempt.number), None) if job else None
    if job is None or found is None or found.end is not attempt.end:
        tell_end(lease.claim, "late", cancelled=job is not None and job.state is JobState.CANCELLED)
        return False
    if attempt.end is End.OK and (job.result is None or lease.claim.token not in job.result.blob):
        return False
    lease.claim = replace(lease.claim, version=job.version)
    if job.state is not wanted or job.attempt != attempt.number:
        lease.message = None  # the row has moved on since: it must never be claimable by the version read now
    return True
