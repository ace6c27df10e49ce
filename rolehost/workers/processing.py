"""Step 3: one message from end to end: begin, run, complete."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost.errors import StoreUnavailableError
from rolehost.failpoints import failpoint
from rolehost.jobs.job import End, JobSpec
from rolehost.telemetry.tracing import span
from rolehost.workers.claiming import begin
from rolehost.workers.completion import complete
from rolehost.workers.halt import Halt
from rolehost.workers.inputs import bring, of_os_error
from rolehost.workers.lease import LeaseKeeper
from rolehost.workers.outcome import Outcome, fault_of
from rolehost.workers.reasons import DRAINED, shortened
from rolehost.workers.scratch import Scratch, scratch
from rolehost.workers.scratch_limit import ScratchLimit

if TYPE_CHECKING:
    from rolehost.processes import ChildIdentity
    from rolehost.stores import QueueMessage
    from rolehost.workers.desk import Desk

Attempt = Callable[[JobSpec, Scratch], Awaitable[Outcome]]

_DRAINED = Outcome(end=End.DRAINED, detail=DRAINED)
_TERMINATED = {-signal.SIGTERM, 128 + signal.SIGTERM}
_SIGNAL_SECONDS = 1.0


async def process_message(
    desk: Desk,
    message: QueueMessage,
    attempt: Attempt,
    *,
    root: Path,
    identity: ChildIdentity | None = None,
    limit: ScratchLimit | None = None,
    ran: Callable[[], None] = lambda: None,
) -> None:
    """Do what a message asks for.

    Args:
        desk: the worker's stores and settings.
        message: as received, hidden for a lease.
        attempt: runs the job in its scratch directory.
        root: where scratch directories are made.
        identity: who console applications run as.
        limit: how much the scratch directories may take; None: as much as there is.
        ran: called when the run is over and the slot is free: uploading needs none.
    """
    await failpoint("after-receive", message.id)
    try:
        claim = await begin(desk, message)
    except StoreUnavailableError as error:
        desk.health.failed("claim", error, message=message.id)
        return
    if claim is None:
        return
    facts = {"job": claim.spec.id, "attempt": claim.attempt.number, "instance": desk.instance}
    traced = span(f"process {claim.spec.kind}", kind="consumer", parent=claim.spec.traceparent, **facts)
    async with scratch(root, claim) as place, LeaseKeeper(desk, claim, message, place.meter) as lease:
        with traced as step:
            full = (limit or ScratchLimit(None)).exceeded(place.folder)
            running = _download_and_run(desk, claim.spec, attempt, place, identity)
            outcome = await _run(desk, lease, place.halt, full, running)
            step.facts["end"] = outcome.end
            await failpoint("after-exit", claim.spec.id)
            ran()
            await complete(desk, lease, outcome)


async def _run(
    desk: Desk,
    lease: LeaseKeeper,
    halt: Halt,
    exceeded: Coroutine[None, None, str],
    running: Coroutine[None, None, Outcome],
) -> Outcome:
    """Download and run, as long as the lease holds, nobody drains, and the scratch directory is within its limit."""
    work = asyncio.create_task(running)
    over = asyncio.create_task(lease.over())
    drained = asyncio.create_task(desk.interrupt.wait())
    full = asyncio.create_task(exceeded)
    try:
        await asyncio.wait({work, over, drained, full}, return_when=asyncio.FIRST_COMPLETED)
        if full.done() and not work.done() and halt.now(full.result()):
            await asyncio.wait({work, over, drained}, return_when=asyncio.FIRST_COMPLETED)
        if work.done() and work.cancelled():
            return Outcome(end=End.APP_ERROR, detail="it cancelled itself")
        if work.done():
            outcome = work.result()
            drained_by_signal = await _ended_by_the_drain(desk, outcome)
            return replace(outcome, end=End.DRAINED, detail=DRAINED) if drained_by_signal else outcome
        if over.done():
            halt.now(f"its lease was {over.result().value}")  # nothing of it counts any more: it gets no grace
        work.cancel()
        interrupted = await _interrupted(work)
        if over.done():
            return Outcome(end=End.LEASE_LOST, detail=f"the lease was {over.result().value}")
        return halt.judged(interrupted, "the job")
    finally:
        for task in (work, over, drained, full):
            task.cancel()
        await asyncio.gather(work, over, drained, full, return_exceptions=True)


async def _interrupted(work: asyncio.Task[Outcome]) -> Outcome:
    """What a cancelled run left; a run that ended well in the last moment counts."""
    with suppress(asyncio.CancelledError):
        outcome = await work
        return outcome if outcome.end in {End.OK, End.BAD_INPUT} else _DRAINED
    return _DRAINED


async def _ended_by_the_drain(desk: Desk, outcome: Outcome) -> bool:
    """Whether an application died of a TERM that was meant for the service: some managers signal every process of it.

    Our own signal may come a moment later than the application's.
    """
    if outcome.end not in {End.KILLED, End.APP_ERROR} or outcome.exit_code not in _TERMINATED:
        return False
    with suppress(TimeoutError):
        async with asyncio.timeout(_SIGNAL_SECONDS):
            await desk.draining.wait()
    return desk.draining.is_set()


async def _download_and_run(
    desk: Desk, spec: JobSpec, attempt: Attempt, place: Scratch, identity: ChildIdentity | None
) -> Outcome:
    """The asset, then the console application; an error of ours is an end of its own, never the application's."""
    ready = await bring(desk, spec, place, identity)
    if isinstance(ready, Outcome):
        return ready
    return replace(await _judged(attempt, ready.spec, ready.place), fetched=ready.fetched)


async def _judged(attempt: Attempt, spec: JobSpec, place: Scratch) -> Outcome:
    """Run the attempt, and hold it to its contract."""
    try:
        outcome = await attempt(spec, place)
    except OSError as error:
        return of_os_error(error)
    except Exception as error:  # noqa: BLE001 - a template or a hook of the worker's: charged, so that it ends
        return Outcome(end=End.APP_ERROR, detail=shortened(f"{type(error).__name__}: {error}"))
    if outcome.end is End.OK and (fault := fault_of(outcome.result)):
        return replace(outcome, end=End.BAD_OUTPUT, detail=f"the worker was done, but {fault}")
    return outcome
