"""What is known of a webhook's deliveries: kept beside the rows, for a terminal row never changes.

The row owes the webhook by a note of its own, which is written with the terminal state and goes when the webhook was
delivered or given up. The record here holds what a note has no place for: how often it was tried, why it failed, and
when it is tried next. It is written before each try, so that two processes that mean to deliver do not both do it, and
so that a try that ended with its process counts, too.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rolehost import clock
from rolehost.errors import VersionMismatchError

if TYPE_CHECKING:
    from rolehost.jobs.job import Job
    from rolehost.stores import Row, Scalar, Stores, Table

DELIVERIES = "webhooks"


class DeliveryState(StrEnum):
    """Where a webhook is."""

    WAITING = "waiting"
    OWED = "owed"
    DELIVERED = "delivered"
    GONE = "gone"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A webhook's deliveries so far.

    Args:
        job: the job's id.
        to: who is told: scheme, host and port of the URL; its path may hold a secret of the receiver's.
        state: `waiting` while the job is open, `owed` until somebody has taken it; then `delivered`, `gone` (the
            receiver wants none), or `given_up`.
        tries: how often it was sent.
        why: what came of the last try, for a person; empty before the first.
        tried_at: when that was.
        next_at: when it is sent next, if it is.
        version: the record's version; empty where there is no record.
    """

    job: str
    to: str = ""
    state: DeliveryState = DeliveryState.OWED
    tries: int = 0
    why: str = ""
    tried_at: datetime | None = None
    next_at: datetime | None = None
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """The deliveries as the API shows them."""
        return {
            "to": self.to,
            "state": self.state,
            "tries": self.tries,
            "why": self.why or None,
            "tried_at": clock.iso(self.tried_at) if self.tried_at else None,
            "next_at": clock.iso(self.next_at) if self.next_at else None,
        }


class Deliveries:
    """The records, over a table of any engine.

    Args:
        table: the engine's table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def of(self, job_id: str) -> Delivery:
        """What is known; a job without a record has never been told of."""
        row = await self._table.read(job_id)
        return _delivery(row) if row else Delivery(job=job_id)

    async def write(self, known: Delivery) -> Delivery:
        """Write what is known, on top of the version that was read.

        Raises:
            ConflictError: somebody else was faster.
        """
        facts: dict[str, Scalar] = {
            "state": known.state,
            "tries": known.tries,
            "why": known.why or None,
            "tried_at": clock.iso(known.tried_at) if known.tried_at else None,
            "next_at": clock.iso(known.next_at) if known.next_at else None,
        }
        if known.version:
            return replace(known, version=await self._table.write(known.job, known.version, facts))
        return replace(known, version=await self._table.insert(known.job, facts))

    async def forget(self, job_id: str) -> None:
        """The job goes, and its record with it."""
        row = await self._table.read(job_id)
        if row is not None:
            with suppress(VersionMismatchError):
                await self._table.delete(job_id, row.version)


async def delivery_of(stores: Stores, job: Job) -> Delivery | None:
    """How a job's webhook stands; None where it has none."""
    if not job.spec.webhook:
        return None
    if not job.state.terminal:
        return Delivery(job=job.id, to=job.spec.webhook_to, state=DeliveryState.WAITING)
    return replace(await Deliveries(stores.table(DELIVERIES)).of(job.id), to=job.spec.webhook_to)


def _delivery(row: Row) -> Delivery:
    facts = dict(row.fields)

    def moment(name: str) -> datetime | None:
        return clock.from_iso(str(facts[name])) if facts.get(name) else None

    return Delivery(
        job=row.key,
        state=DeliveryState(str(facts["state"])),
        tries=int(facts.get("tries") or 0),
        why=str(facts.get("why") or ""),
        tried_at=moment("tried_at"),
        next_at=moment("next_at"),
        version=row.version,
    )
