"""Begin: from a message to a claim, or to the message's settlement.

The message may be late, doubled, or about a job that is over: the row decides, by one conditional write. No two
machines' clocks are compared: a lease is dead when the row's latest renewal is still the one that this message saw a
lease ago.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from rolehost import clock
from rolehost.errors import NotAWakeUpError, StoreError, StoreUnavailableError, VersionMismatchError
from rolehost.failpoints import failpoint
from rolehost.jobs.job import Attempt, Charges, End, Job, JobSpec, JobState
from rolehost.jobs.table import DEBT, TABLE, Claim, new_token
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Note
from rolehost.telemetry import emit
from rolehost.workers.reasons import budget_spent, shortened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from rolehost.stores import QueueMessage
    from rolehost.workers.desk import Desk

TRIES = 4
KEPT = 10
"""Attempts that were charged nothing are forgotten beyond so many: a row has limits, interruptions have none."""

Tokens: TypeAlias = "dict[str, float]"
"""The lease tokens of the claims that were tried, and when each was sent: a claim whose answer is lost may be ours."""


async def begin(desk: Desk, message: QueueMessage) -> Claim | None:
    """Claim the job that a message names.

    Returns:
        The claim; None if there is nothing to run, and the message is settled or hidden.

    Raises:
        StoreUnavailableError: the stores do not answer; the message comes back by itself.
    """
    try:
        wake_up = WakeUp.decode(message.body)
    except NotAWakeUpError as error:
        await settled(desk.queue.dead_letter(message, reason="malformed", description=shortened(str(error))))
        emit("message.malformed", message=message.id, why=str(error))
        return None
    tokens: Tokens = {}
    claim = await _claim_as_told(desk, wake_up, tokens)
    return claim or await _claim_as_read(desk, message, wake_up, tokens)


async def _claim_as_told(desk: Desk, wake_up: WakeUp, tokens: Tokens) -> Claim | None:
    """The first try, against the version that the message carries: success proves that the job was queued."""
    spec = wake_up.spec
    if spec is None or wake_up.version is None or _overdue(desk, spec) or wake_up.attempt > KEPT:
        return None
    try:
        return await _claim(desk, spec, wake_up.version, wake_up.attempt, wake_up.charges, tokens=tokens)
    except (VersionMismatchError, StoreUnavailableError):
        return None


async def _claim_as_read(desk: Desk, message: QueueMessage, wake_up: WakeUp, tokens: Tokens) -> Claim | None:
    """The row was read: claim what is free, respect a live lease, settle what is over."""
    for _ in range(TRIES):
        job = await desk.jobs.read(wake_up.job)
        if job is None:
            await _set_aside_orphan(desk, message, wake_up.job)
            return None
        if job.token and job.token in tokens:
            return _own(job, sent=tokens[job.token])
        if job.state.terminal:
            await settle_terminal(desk, message, job.state, job.reason)
            return None
        if job.state is JobState.RUNNING and wake_up.seen != job.held_since:
            await _hide(desk, message, job)
            return None
        try:
            return await _take_over(desk, message, job, tokens)
        except (VersionMismatchError, StoreUnavailableError):
            continue
    return None


async def _set_aside_orphan(desk: Desk, message: QueueMessage, job_id: str) -> None:
    """A message without a row: foreign, or later than its job was kept. Nothing can be run; a person may look."""
    description = f"no job has the id {shortened(job_id)}: it was removed, or was never accepted"
    await settled(desk.queue.dead_letter(message, reason="orphan", description=description))
    emit("message.orphaned", message=message.id, job=job_id)


async def _take_over(desk: Desk, message: QueueMessage, job: Job, tokens: Tokens) -> Claim | None:
    """Claim a queued row, or one whose lease is dead; or poison it when a budget is spent."""
    lost = _worker_lost(job)
    charges = job.charges.plus(End.WORKER_LOST) if lost else job.charges
    reason = _no_more(desk, job.spec, charges, lost)
    if reason:
        await desk.jobs.poison(job.id, job.version, lost, reason=reason, spec=job.spec)
        desk.tell(job.spec)
        emit("job.poisoned", job=job.id, reason=reason)
        await settle_terminal(desk, message, JobState.POISONED, reason)
        return None
    return await _claim(
        desk, job.spec, job.version, job.attempt, charges, tokens=tokens, lost=lost, forget=_forgettable(job)
    )


async def _claim(
    desk: Desk,
    spec: JobSpec,
    version: str,
    latest: int,
    charges: Charges,
    *,
    tokens: Tokens,
    lost: Attempt | None = None,
    forget: Sequence[int] = (),
) -> Claim:
    await failpoint("before-claim", spec.id)
    token = new_token()
    tokens[token] = clock.monotonic()
    claim = await desk.jobs.claim(
        spec,
        version,
        number=latest + 1,
        charges=charges,
        instance=desk.instance,
        lease=desk.settings.lease,
        token=token,
        lost=lost,
        forget=forget,
    )
    await failpoint("after-claim", spec.id)
    waited = None if latest else round((clock.now() - spec.submitted_at).total_seconds(), 3)
    emit("job.claimed", job=spec.id, attempt=claim.attempt.number, waited=waited)
    return claim


def _own(job: Job, *, sent: float) -> Claim:
    """A claim of ours whose answer was lost."""
    *before, opened = job.attempts
    return Claim(
        spec=job.spec,
        attempt=opened,
        token=job.token,
        version=job.version,
        charges=Charges.of(attempt.end for attempt in before),
        sent=sent,
    )


def _forgettable(job: Job) -> Sequence[int]:
    free = [attempt.number for attempt in job.attempts if attempt.end is not None and not attempt.end.charged_to]
    return free[:-KEPT]


def _worker_lost(job: Job) -> Attempt | None:
    """The open attempt of a dead lease, with its end: only claimers record it."""
    if job.state is not JobState.RUNNING or not job.attempts:
        return None
    detail = "the worker vanished: it was killed, or its machine was lost"
    return replace(job.attempts[-1], ended_at=clock.now(), end=End.WORKER_LOST, detail=detail)


def _no_more(desk: Desk, spec: JobSpec, charges: Charges, lost: Attempt | None) -> str:
    """Why the job may not be tried again; empty if it may."""
    if charges.spent:
        return budget_spent(charges.spent, lost.detail if lost else "")
    if _overdue(desk, spec):
        return "deadline: the job was still open so long after its submission"
    return ""


def _overdue(desk: Desk, spec: JobSpec) -> bool:
    return clock.now() - spec.submitted_at > timedelta(seconds=desk.settings.deadline)


async def _hide(desk: Desk, message: QueueMessage, job: Job) -> None:
    """Somebody holds the lease: come back in a lease, theirs if it is longer, with the version that was seen now."""
    body = WakeUp(job=job.id, spec=job.spec, seen=job.held_since).encode()
    await settled(desk.queue.release(message, delay=max(desk.settings.lease, job.lease), body=body))


async def settle_terminal(desk: Desk, message: QueueMessage | None, state: JobState, reason: str) -> None:
    """Settle the message of a job that is over: dead-letter what is poisoned, and only then forget the debt."""
    if message is None:
        return
    if state is not JobState.POISONED:
        await settled(desk.queue.complete(message))
        return
    cause = reason.partition(":")[0]
    job = WakeUp.decode(message.body).job
    if await settled(desk.queue.dead_letter(message, reason=cause, description=reason)):
        with suppress(StoreError):  # recovery finds the debt and the dead letter
            await desk.stores.table(TABLE).drop_note(Note(DEBT, job))


async def settled(verb: Awaitable[object]) -> bool:
    """Await a settlement: late and double ones are benign, and a message that can't be settled comes back."""
    try:
        await verb
    except StoreError:
        return False
    return True
