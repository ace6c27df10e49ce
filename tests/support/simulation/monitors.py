"""What no write may ever do, whatever failed before it (the invariants of the reliability page)."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from rolehost import clock
from rolehost.jobs.codec import job_from_row
from rolehost.jobs.job import CAPS, End, Job, JobState
from rolehost.jobs.table import BURIED, TABLE

if TYPE_CHECKING:
    from rolehost.stores import Row
    from support.simulation.memory import MemoryBlobs, MemoryTable

LEASE = 60.0


class Monitors:
    """Told of every change of a row and every removal of a blob; `violations` counts what was wrong."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()
        self.facts: Counter[str] = Counter()
        self.events: list[dict[str, Any]] = []
        self.renewed: dict[str, float] = {}
        self.table: MemoryTable | None = None
        self.blobs: MemoryBlobs | None = None

    def flag(self, what: str) -> None:
        self.violations[what] += 1

    def tell(self, event: str, **facts: Any) -> None:
        """Write down what happened, as `support.history` reads it."""
        self.events.append({"event": event, "at": clock.monotonic(), **facts})

    def changed(self, table: MemoryTable, before: Row | None, after: Row | None) -> None:
        if table.name != TABLE:
            return
        self.table = table
        old = job_from_row(before) if before and before.tag != BURIED else None
        new = job_from_row(after) if after and after.tag != BURIED else None
        if new is not None:
            self.tell("row", job=new.to_json(), blob=new.result.blob if new.result else None)
        elif old is not None:
            self.tell("removed", job=old.id)
        if old is None and new is not None:
            self._inserted(new)
        elif old is not None and new is None:
            if not old.state.terminal:
                self.flag("an open job's row was removed")
        elif old is not None and new is not None:
            self._moved(old, new)
            self._told(old, new)
        if after is not None and _lease(before) != _lease(after):
            self.renewed[after.key] = clock.monotonic()

    def _told(self, old: Job, new: Job) -> None:
        """Progress rises within an attempt, and goes with it."""
        self.facts["told"] += new.progress not in (None, old.progress)
        if not new.progress:
            return
        if new.state is not JobState.RUNNING:
            self.flag("progress of a job that does not run")
        if new.token != old.token:
            self.flag("an attempt began with progress")
        elif old.progress and new.progress["percent"] < old.progress["percent"]:
            self.flag("progress fell")

    def _inserted(self, new: Job) -> None:
        if self.blobs is not None and new.spec.source.blob not in self.blobs.content:
            self.flag("accepted without its input")

    def _moved(self, old: Job, new: Job) -> None:
        if old.state.terminal:
            self.flag("a terminal row changed")
        if new.token and new.token != old.token and new.attempt <= old.attempt:
            self.flag("the attempt did not grow")
        if any(getattr(new.charges, budget) > cap for budget, cap in CAPS.items()):
            self.flag("charges over their cap")
        ends = {attempt.number: attempt.end for attempt in new.attempts}
        for attempt in old.attempts:
            if attempt.end is not None and ends.get(attempt.number, attempt.end) is not attempt.end:
                self.flag("a recorded end changed")
        self._lost(old, new)
        self._ended(new)

    def _lost(self, old: Job, new: Job) -> None:
        open_before = {attempt.number for attempt in old.attempts if attempt.end is None}
        lost = {attempt.number for attempt in new.attempts if attempt.end is End.WORKER_LOST}
        if open_before & lost:
            self.facts["lost"] += 1
            if clock.monotonic() - self.renewed[old.id] < LEASE - 0.01:
                self.flag("a lease that did not stand still was taken")

    def _ended(self, new: Job) -> None:
        if new.state.terminal and any(attempt.end is None for attempt in new.attempts):
            self.flag("over, with an attempt that has no end")
        if new.state is JobState.POISONED:
            cause = new.reason.partition(":")[0]
            known = cause in {"deadline", "poison_now"}
            if not known and new.charges.spent is None:
                self.flag("poisoned without a budget spent")
        if new.state is JobState.COMPLETED and self.blobs is not None:
            content = self.blobs.content.get(new.result.blob) if new.result else None
            if new.result is None or content is None or hashlib.sha256(content).hexdigest() != new.result.sha256:
                self.flag("a visible result without its blob")

    def removed_blob(self, name: str) -> None:
        job = self._job(name.split("/")[1])
        if job is None or (job.state.terminal and job.state is not JobState.COMPLETED):
            return
        if name == job.spec.source.blob and not job.state.terminal:
            self.flag("the input of an open job was removed")
        if job.result is not None and job.result.blob == name and not self.retiring(job):
            self.flag("a visible result was removed")

    def retiring(self, job: Job) -> bool:
        """Whether retention may take the job."""
        return job.finished_at is not None and (clock.now() - job.finished_at).total_seconds() > RETENTION - 120

    def _job(self, job_id: str) -> Job | None:
        row = self.table.rows.get(job_id) if self.table else None
        return job_from_row(row) if row and row.tag != BURIED else None


def _lease(row: Row | None) -> tuple[object, ...]:
    """What a renewal changes, and progress does not."""
    return (row.fields.get("token"), row.fields.get("lease_until")) if row else ()


RETENTION = 3600.0
