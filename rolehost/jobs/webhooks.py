"""A job's end is told to the URL that its submitter named: signed, at least once, under one id.

The commit of a terminal state writes a note with the row, in the same transaction: from then on the webhook is owed,
whoever dies. Whoever committed sends it at once, beside its other work; recovery sends what is still owed. The form and
the signatures are those of Standard Webhooks 1.0 (standardwebhooks.com).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Self
from weakref import WeakValueDictionary

from rolehost import clock
from rolehost.errors import ConflictError, OutboundError, RoleEnvironmentError, StoreError
from rolehost.jobs.codec import dumps
from rolehost.jobs.table import TABLE, WEBHOOK, JobTable
from rolehost.jobs.webhook_deliveries import DELIVERIES, Deliveries, Delivery, DeliveryState
from rolehost.stores import Note
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.jobs.job import Job
    from rolehost.jobs.webhook_settings import WebhookSettings
    from rolehost.outbound import Outbound
    from rolehost.stores import Stores

PAUSES = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0)
LATER = 21600.0
"""Seconds to the next try, by the number of those that failed; then these, until it is given up."""
MOST_OWED = 5_000
"""Notes that a pass looks at, the oldest first; the next pass goes on behind them."""
MOST_WAITING = 5_000
MOST_TO_ONE = 500
"""Of those that wait, so that one receiver that does not answer leaves room for all others."""
AT_ONCE = 32
AT_ONCE_TO_ONE = 8
SELDOM = 600.0
"""Without a secret nothing is sent: recovery looks so seldom, only to say so."""
LAST_MOMENT = 1.0
"""Seconds that deliveries still get when their process stops; what is not done then stays owed."""
_GONE = 410


def webhook_id(job: Job) -> str:
    """The id of a terminal state's webhook: the same in every delivery, so that receivers can tell repetitions."""
    return f"{job.id}:{job.state}"


def body_of(job: Job) -> bytes:
    """What is sent: a terminal row never changes, so that this never does."""
    ended = clock.iso(job.finished_at) if job.finished_at else None
    return dumps({"type": f"job.{job.state}", "timestamp": ended, "data": job.to_json()}).encode(errors="replace")


def headers_of(job: Job, body: bytes, keys: Sequence[bytes], sent: datetime) -> dict[str, str]:
    """The headers of one delivery, with a signature by each key."""
    message_id, seconds = webhook_id(job), str(int(sent.timestamp()))
    told = f"{message_id}.{seconds}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, told, hashlib.sha256)).decode() for key in keys]
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of a try."""

    state: DeliveryState
    why: str


class Webhooks:
    """Delivers, in tasks of its own: nobody waits for a receiver. One for a process, as an asynchronous context.

    Args:
        stores: where the jobs are.
        settings: where deliveries may go, and what signs them.
    """

    def __init__(self, stores: Stores, settings: WebhookSettings) -> None:
        self._rows = stores.table(TABLE)
        self._jobs = JobTable(self._rows)
        self._deliveries = Deliveries(stores.table(DELIVERIES))
        self._settings = settings
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}
        self._looks_at = 0.0
        self._all = asyncio.Semaphore(AT_ONCE)
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._there: Counter[str] = Counter()
        self._left: dict[str, str] = {}
        self._seen_to = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let what is on its way arrive, for a moment."""
        if tasks := [*self._tasks.values()]:
            await asyncio.wait(tasks, timeout=LAST_MOMENT)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def settings(self) -> WebhookSettings:
        """What was set."""
        return self._settings

    def soon(self, job_id: str) -> None:
        """Deliver a job's webhook beside all else, if it is owed; called again meanwhile it changes nothing."""
        if job_id in self._tasks or len(self._tasks) >= MOST_WAITING:
            return  # recovery comes back to what does not fit
        self._tasks[job_id] = task = asyncio.create_task(self._one(job_id), name=f"webhook {job_id}")
        task.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def sweep(self) -> None:
        """Begin to deliver all that is owed and due."""
        now = clock.monotonic()
        if not self._settings.configured and now < self._looks_at:
            return
        self._looks_at = now + SELDOM
        owed = await self._owed()
        self._not_before = {key: moment for key, moment in self._not_before.items() if moment > now}
        there = Counter(self._there)
        for job_id in owed:
            to = self._left.get(job_id, "")
            if job_id not in self._not_before and there[to] < MOST_TO_ONE:
                there[to] += bool(to)
                self.soon(job_id)

    async def _owed(self) -> Sequence[str]:
        """The next jobs with webhooks that are owed: many of a dead receiver's don't hide the others behind them."""
        begin = self._seen_to
        owed = [note.key for note in await self._rows.notes(WEBHOOK, limit=MOST_OWED, after=begin)]
        self._seen_to = end = owed[-1] if len(owed) >= MOST_OWED else ""
        there = set(owed)
        self._left = {key: to for key, to in self._left.items() if key in there or key <= begin or (end and key > end)}
        return owed

    async def _one(self, job_id: str) -> None:
        try:
            async with self._all:
                job, known = await self._jobs.read(job_id), await self._deliveries.of(job_id)
            if job is None or not job.spec.webhook or known.state is not DeliveryState.OWED:
                await self._settle(job_id)
            elif job.state.terminal and self._is_due(known):
                await self._in_its_turn(job, known)
        except ConflictError:
            return  # somebody else is at it
        except StoreError as error:  # it stays owed
            emit("store.unavailable", what="webhooks", job=job_id, why=str(error))
        except Exception as error:  # noqa: BLE001 - a task that nobody waits for: else the fault would be silent
            emit("webhook.crashed", job=job_id, why=repr(error))

    def _is_due(self, known: Delivery) -> bool:
        """Whether it is time; else the time is kept, so that the next passes need not read it again."""
        left = (known.next_at - clock.now()).total_seconds() if known.next_at else 0.0
        if left > 0:
            self._not_before[known.job] = clock.monotonic() + left
        return left <= 0

    async def _in_its_turn(self, job: Job, known: Delivery) -> None:
        """A few at a time to one receiver: a slow one does not take the others' places, to be sent or to wait."""
        to = job.spec.webhook_to
        if self._there[to] >= MOST_TO_ONE:
            if len(self._left) < MOST_OWED:
                self._left[job.id] = to  # a sweep begins it when there is room, without reading it anew
            return
        self._left.pop(job.id, None)
        self._there[to] += 1
        host = self._hosts.setdefault(to, asyncio.Semaphore(AT_ONCE_TO_ONE))
        try:
            async with host, self._all:
                await self._try(job, known)
        finally:
            self._there[to] -= 1
            if not self._there[to]:
                del self._there[to]

    async def _try(self, job: Job, known: Delivery) -> None:
        """Write that it is tried, try, and write what came of it."""
        now = clock.now()
        until = now + timedelta(seconds=self._settings.deadline + PAUSES[0])
        tried = replace(known, tries=known.tries + 1, tried_at=now, next_at=until, why="no answer yet")
        tried = await self._deliveries.write(tried)
        answer = await self._ask(job)
        told = self._judged(job, tried, answer)
        await self._deliveries.write(told)
        facts = {"job": job.id, "to": job.spec.webhook_to, "tries": told.tries, "why": told.why}
        if told.state is DeliveryState.OWED:
            self._is_due(told)
            emit("webhook.failed", **facts)
            return
        await self._settle(job.id)
        emit(f"webhook.{told.state}", **facts)

    def _judged(self, job: Job, tried: Delivery, answer: _Answer) -> Delivery:
        """What is known now: owed again after a pause, or given up when the pause would end too late."""
        if answer.state is not DeliveryState.OWED:
            return replace(tried, state=answer.state, why=answer.why, next_at=None)
        pause = PAUSES[tried.tries - 1] if tried.tries <= len(PAUSES) else LATER
        next_at = clock.now() + timedelta(seconds=pause * random.uniform(0.9, 1.1))  # noqa: S311 - no secret
        if next_at > (job.finished_at or next_at) + self._settings.give_up:
            return replace(tried, state=DeliveryState.GIVEN_UP, why=answer.why, next_at=None)
        return replace(tried, why=answer.why, next_at=next_at)

    async def _ask(self, job: Job) -> _Answer:
        body = body_of(job)
        try:
            keys = await asyncio.to_thread(self._settings.keys)
            status = await self._outbound.post(job.spec.webhook, body, headers_of(job, body, keys, clock.now()))
        except (OutboundError, RoleEnvironmentError) as error:
            return _Answer(DeliveryState.OWED, str(error))
        match status // 100:
            case 2:
                return _Answer(DeliveryState.DELIVERED, f"the receiver answered {status}")
            case 3:
                return _Answer(DeliveryState.OWED, f"the receiver answered {status}: redirects are not followed")
            case _:
                state = DeliveryState.GONE if status == _GONE else DeliveryState.OWED
                return _Answer(state, f"the receiver answered {status}")

    @cached_property
    def _outbound(self) -> Outbound:
        from rolehost.outbound import Outbound  # noqa: PLC0415 - an HTTP client: only where there are webhooks

        return Outbound(self._settings.rules())

    async def _settle(self, job_id: str) -> None:
        """Nothing is owed any more."""
        with suppress(StoreError):  # the next pass finds the record, and drops the note
            await self._rows.drop_note(Note(WEBHOOK, job_id))
