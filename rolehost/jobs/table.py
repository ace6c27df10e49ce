"""The jobs table: the sole writer of a job row, and every transition is one conditional write of one row.

Each method below is one arrow of the state diagram. None of them reads before it writes: the caller names the version
that it knows, and a refused write (VersionMismatchError) means that the row has moved on.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from rolehost import clock
from rolehost.errors import AlreadyExistsError, VersionMismatchError
from rolehost.jobs.codec import attempt_field, attempt_to_text, dumps, job_from_row, renewal_to_text, result_to_text
from rolehost.jobs.job import Attempt, Charges, End, Job, JobSpec, JobState, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolehost.stores import Scalar, Table

Progress: TypeAlias = "Mapping[str, float | None]"
"""`{"percent": ..., "eta_seconds": ...}`, as it is shown."""

TABLE = "jobs"
DEBT = "debt"
WEBHOOK = "webhook"
"""The note that goes with a terminal state where somebody is to be told of it."""
BURIED = "buried"
"""The tag of a tombstone: it holds an id whose input was collected, so that no late submitter's insert succeeds."""
_NO_PROGRESS: Mapping[str, Scalar] = {"progress": None, "renewal": None}
"""It belongs to an attempt that runs: the next one begins anew, and what is over says how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to run one attempt of a job, as long as the row says so.

    Args:
        spec: the job.
        attempt: the attempt as it was opened.
        token: the lease token in the row.
        version: the row's version after the latest write of ours.
        charges: the charges of the attempts before this one.
        sent: when the claim, or its latest renewal, was *sent*, on the monotonic clock; trust counts from there.
        renewal: the version that the claim or its latest renewal made, where progress was written after it.
    """

    spec: JobSpec
    attempt: Attempt
    token: str
    version: str
    charges: Charges
    sent: float
    renewal: str = ""

    @property
    def held_since(self) -> str:
        """The version of the write from which the lease counts."""
        return self.renewal or self.version


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, and where to go on; `cursor` is None at the end."""

    jobs: Sequence[Job]
    cursor: str | None


class JobTable:
    """Job rows over a table of any engine.

    Args:
        table: the engine's table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def read(self, job_id: str) -> Job | None:
        """The job as it is now."""
        row = await self._table.read(job_id)
        return job_from_row(row) if row and row.tag != BURIED else None

    async def list(
        self,
        *,
        state: JobState | None = None,
        limit: int = 50,
        cursor: str | None = None,
        newest_first: bool = True,
    ) -> JobPage:
        """Jobs by the time of their submission."""
        page = await self._table.list(tag=state, limit=limit, cursor=cursor, newest_first=newest_first)
        return JobPage([job_from_row(row) for row in page.rows if row.tag != BURIED], page.cursor)

    async def counts(self) -> Mapping[str, int]:
        """How many jobs there are in each state, zeros included."""
        counted = (await self._table.counts()).by_tag
        return {state.value: counted.get(state, 0) for state in JobState}

    async def claim(
        self,
        spec: JobSpec,
        version: str,
        *,
        number: int,
        charges: Charges,
        instance: str,
        lease: float,
        token: str,
        lost: Attempt | None = None,
        forget: Sequence[int] = (),
    ) -> Claim:
        """Queued or running (its lease dead) -> running: open attempt `number` under a fresh token.

        Args:
            spec: the job.
            version: the version that shows it unleased, or under a lease that is dead.
            number: the new attempt's number.
            charges: what the attempts before it were charged, `lost` included.
            instance: the role instance that claims.
            lease: seconds; `lease_until` is written for display only.
            token: fresh and random: the caller keeps it, to know its own claim when no answer comes.
            lost: the attempt that was open, with its end `worker_lost`.
            forget: numbers of old attempts that were charged nothing: a row has limits, interruptions have none.
        """
        sent, started = clock.monotonic(), clock.now()
        opened = Attempt(number=number, started_at=started, instance=instance)
        changes: dict[str, Scalar] = {attempt_field(old): None for old in forget}
        changes |= {
            "attempt": number,
            "token": token,
            "lease": lease,
            "lease_until": clock.iso(started + timedelta(seconds=lease)),
            "retries_at": None,
            "reason": None,
            **_NO_PROGRESS,
            attempt_field(number): attempt_to_text(opened),
        }
        if number == 1:
            changes["started_at"] = clock.iso(started)
        if lost is not None:
            changes[attempt_field(lost.number)] = attempt_to_text(lost)
        written = await self._table.write(spec.id, version, changes, tag=JobState.RUNNING)
        return Claim(spec=spec, attempt=opened, token=token, version=written, charges=charges, sent=sent)

    async def renew(self, claim: Claim, *, lease: float, progress: Progress | None = None) -> Claim:
        """Running -> running: the same lease, longer.

        Args:
            claim: the claim.
            lease: seconds.
            progress: how far the attempt has come, where that is news.
        """
        sent = clock.monotonic()
        until = clock.iso(clock.now() + timedelta(seconds=lease))
        changes: dict[str, Scalar] = {"lease_until": until, "renewal": None}
        if progress is not None:
            changes["progress"] = dumps(progress)
        written = await self._table.write(claim.spec.id, claim.version, changes)
        return replace(claim, version=written, renewal="", sent=sent)

    async def tell_progress(self, claim: Claim, progress: Progress) -> Claim:
        """Running -> running: how far the attempt has come. The lease is not any longer for it.

        The row keeps the version of the write from which the lease counts: it is that which must stand still for a
        lease to be dead, and that which the message was marked with.
        """
        changes = {"progress": dumps(progress), "renewal": renewal_to_text(claim.token, claim.held_since)}
        written = await self._table.write(claim.spec.id, claim.version, changes)
        return replace(claim, version=written, renewal=claim.held_since)

    async def complete(self, claim: Claim, attempt: Attempt, result: Result) -> str:
        """Running -> completed: the result becomes visible, in this one write."""
        changes = _closing(attempt) | {"result": result_to_text(result), "finished_at": clock.iso(clock.now())}
        return await self._end(claim.spec, claim.version, changes, JobState.COMPLETED)

    async def retry(self, claim: Claim, attempt: Attempt, *, retries_at: datetime | None) -> str:
        """Running -> queued: the attempt has ended, another follows."""
        changes = _closing(attempt) | {
            "reason": attempt.detail or None,
            "retries_at": clock.iso(retries_at) if retries_at else None,
        }
        return await self._table.write(claim.spec.id, claim.version, changes, tag=JobState.QUEUED)

    async def fail(self, claim: Claim, attempt: Attempt, *, reason: str) -> str:
        """Running -> failed: the input is at fault, no retry helps."""
        changes = _closing(attempt) | {"reason": reason, "finished_at": clock.iso(clock.now())}
        return await self._end(claim.spec, claim.version, changes, JobState.FAILED)

    async def poison(
        self, job_id: str, version: str, attempt: Attempt | None, *, reason: str, spec: JobSpec | None = None
    ) -> str:
        """Running or queued -> poisoned, with the debt of a dead letter in the same transaction.

        Args:
            job_id: the job's.
            version: the version that is known.
            attempt: the open attempt with its end, if there is one.
            reason: for people.
            spec: the job's, for its webhook.
        """
        changes: dict[str, Scalar] = {"token": None, "lease_until": None, "retries_at": None}
        changes |= _closing(attempt) if attempt else {}
        changes |= {"reason": reason, "finished_at": clock.iso(clock.now())}
        notes = [DEBT, *_owed(spec)]
        return await self._table.write(job_id, version, changes, tag=JobState.POISONED, notes=notes)

    async def cancel(self, job: Job, *, reason: str = "") -> str:
        """Queued or running -> cancelled; a cancel records the open attempt's end.

        Raises:
            VersionMismatchError: the row has moved on, or the job was over already.
        """
        if job.state.terminal:
            raise VersionMismatchError(f"the job {job.id} is {job.state} already")
        changes: dict[str, Scalar] = {"token": None, "lease_until": None, "retries_at": None}
        if job.state is JobState.RUNNING and job.attempts:
            ended = replace(job.attempts[-1], ended_at=clock.now(), end=End.CANCELLED)
            changes |= _closing(ended)
        changes |= {"reason": reason or None, "finished_at": clock.iso(clock.now())}
        return await self._end(job.spec, job.version, changes, JobState.CANCELLED)

    async def _end(self, spec: JobSpec, version: str, changes: Mapping[str, Scalar], state: JobState) -> str:
        return await self._table.write(spec.id, version, changes, tag=state, notes=_owed(spec))

    async def remove(self, job: Job) -> None:
        """A terminal row goes: purge and retention."""
        await self._table.delete(job.id, job.version)

    async def bury(self, job_id: str) -> bool:
        """Put a tombstone where no row is; False where one is."""
        try:
            await self._table.insert(job_id, {"buried_at": clock.iso(clock.now())}, tag=BURIED)
        except AlreadyExistsError:
            row = await self._table.read(job_id)
            return row is not None and row.tag == BURIED
        return True

    async def forget_buried(self, before: datetime, *, limit: int) -> None:
        """Remove tombstones that were put before a moment, up to `limit` of the oldest."""
        for row in (await self._table.list(tag=BURIED, limit=limit, newest_first=False)).rows:
            if clock.from_iso(str(row.fields["buried_at"])) < before:
                with suppress(VersionMismatchError):
                    await self._table.delete(row.key, row.version)


def new_token() -> str:
    """A fresh lease token."""
    return secrets.token_hex(8)


def _owed(spec: JobSpec | None) -> list[str]:
    """What others are owed from a terminal state on, beside a poisoned job's dead letter."""
    return [WEBHOOK] if spec is not None and spec.webhook else []


def _closing(attempt: Attempt) -> dict[str, Scalar]:
    """The lease and the progress go, and the attempt's end is recorded."""
    return {"token": None, "lease_until": None, **_NO_PROGRESS, attempt_field(attempt.number): attempt_to_text(attempt)}
