"""What a job is: its states, its attempts, how attempts end and what each end is charged to.

The table of ends is the design's; the counting here is the only place that knows it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from rolehost import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class JobState(StrEnum):
    """Where a job is. A row in a terminal state never changes."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    POISONED = "poisoned"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing follows."""
        return self not in {JobState.QUEUED, JobState.RUNNING}


class End(StrEnum):
    """How an attempt ended. Every attempt has an end; one whose worker vanished gets `worker_lost` from the next."""

    OK = "ok"
    BAD_INPUT = "bad_input"
    APP_ERROR = "app_error"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    OOM = "oom"
    KILLED = "killed"
    WORKER_LOST = "worker_lost"
    BAD_OUTPUT = "bad_output"
    SOURCE_ERROR = "source_error"
    DRAINED = "drained"
    LEASE_LOST = "lease_lost"
    DISK_FULL = "disk_full"
    STORE_ERROR = "store_error"
    PUT_BACK = "put_back"
    POISON_NOW = "poison_now"
    CANCELLED = "cancelled"

    @property
    def charged_to(self) -> str | None:
        """The budget that pays for it: `app`, `resource`, `lost`, or none."""
        return _CHARGED_TO.get(self)


class Priority(StrEnum):
    """Which of a kind's jobs begin first; each level has a queue of its own. The highest first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


_CHARGED_TO = {
    End.APP_ERROR: "app",
    End.TIMEOUT: "app",
    End.STALLED: "app",
    End.BAD_OUTPUT: "app",
    End.SOURCE_ERROR: "app",
    End.OOM: "resource",
    End.KILLED: "resource",
    End.WORKER_LOST: "lost",
}

CAPS: Mapping[str, int] = {"app": 5, "resource": 2, "lost": 3}
INPUTS = "inputs/"
"""Below it are the blobs of what was uploaded, each its job's own."""


@dataclass(frozen=True, slots=True)
class Charges:
    """Charges so far, per budget."""

    app: int = 0
    resource: int = 0
    lost: int = 0

    def plus(self, end: End) -> Charges:
        """The charges once an attempt has ended so."""
        match end.charged_to:
            case "app":
                return Charges(self.app + 1, self.resource, self.lost)
            case "resource":
                return Charges(self.app, self.resource + 1, self.lost)
            case "lost":
                return Charges(self.app, self.resource, self.lost + 1)
            case _:
                return self

    @property
    def spent(self) -> str | None:
        """The budget that is spent, if one is."""
        return next((budget for budget, cap in CAPS.items() if getattr(self, budget) >= cap), None)

    def to_json(self) -> dict[str, int]:
        """`{"app": 0, "resource": 0, "lost": 0}`."""
        return {"app": self.app, "resource": self.resource, "lost": self.lost}

    @classmethod
    def of(cls, ends: Iterable[End | None]) -> Charges:
        """Count the recorded ends."""
        total = cls()
        for end in ends:
            if end is not None:
                total = total.plus(end)
        return total


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an attempt found where its job's source is: bytes, and the media type by the content."""

    size: int
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of a job.

    Args:
        number: from 1, only grows; it fences the run.
        started_at: when the claim was made.
        instance: the role instance that made it.
        ended_at: None while it is open.
        end: None while it is open.
        exit_code: of the console application; negative for a signal's number; None if it never ended by itself.
        detail: why it ended so, for a person.
        stdout: what the console application printed, head and tail.
        stderr: the same.
        log: the blob with all that was kept of the output, where head and tail leave something out.
        fetched: what it got from the URL or the lent blob of the job's source; None where there is none.
    """

    number: int
    started_at: datetime
    instance: str = ""
    ended_at: datetime | None = None
    end: End | None = None
    exit_code: int | None = None
    detail: str = ""
    stdout: str = ""
    stderr: str = ""
    log: str = ""
    fetched: Fetched | None = None

    def to_json(self) -> dict[str, Any]:
        """The attempt as the API shows it."""
        return {
            "number": self.number,
            "started_at": clock.iso(self.started_at),
            "ended_at": clock.iso(self.ended_at) if self.ended_at else None,
            "end": self.end,
            "exit_code": self.exit_code,
            "charged": self.end.charged_to if self.end else None,
            "instance": self.instance,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The asset that a job works on.

    Args:
        name: as the submitter gave it, or the last segment of the URL or blob.
        size: bytes; 0 while nobody knows: of what is not uploaded, until an attempt has fetched it.
        type: media type by the content; empty while nobody knows: of what is at a URL.
        blob: that it is in; empty where it is fetched from a URL.
        url: that it is fetched from, by each attempt anew; empty where it is a blob.
    """

    name: str
    size: int
    type: str
    blob: str
    url: str = ""

    @property
    def lent(self) -> bool:
        """Whether it is a blob that was there before the job, and stays when the job goes."""
        return bool(self.blob) and not self.blob.startswith(INPUTS)

    @property
    def kept(self) -> bool:
        """Whether it is the job's own copy, which goes with it: that alone can be had from us again."""
        return self.blob.startswith(INPUTS)

    @property
    def shown_url(self) -> str:
        """Scheme, host, port and path of the URL: all of it that is shown, for its query may be a secret."""
        return _without_query(self.url)

    def to_json(self) -> dict[str, Any]:
        """The source as the API shows it: our own blobs are reached through the job only."""
        told: dict[str, Any] = {"name": self.name, "size": self.size or None, "type": self.type or None}
        told |= {"url": self.shown_url} if self.url else {}
        return told | ({"blob": self.blob} if self.lent else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A file that a job names beside its source: a blob that is lent, or a URL that each attempt fetches.

    Args:
        name: that it has in the job's scratch directory, below `resources`.
        blob: that it is in; empty for none.
        url: that it is fetched from; empty for none.
    """

    name: str
    blob: str = ""
    url: str = ""

    @property
    def shown_url(self) -> str:
        """Scheme, host, port and path of the URL, as of a source's."""
        return _without_query(self.url)

    def to_json(self) -> dict[str, str]:
        """The file as the API shows it."""
        return {"name": self.name} | ({"url": self.shown_url} if self.url else {"blob": self.blob})


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if url else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a completed job made."""

    name: str
    size: int
    sha256: str
    type: str
    blob: str

    def to_json(self) -> dict[str, Any]:
        """The result as the API shows it."""
        return {"name": self.name, "size": self.size, "sha256": self.sha256, "type": self.type}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What never changes in a job, and what a message carries so that a claim needs no read.

    `traceparent` is W3C's: the step of a trace in which the job was submitted; empty where nobody said. `webhook` is
    the URL that is told of the job's end; empty for none. `priority` decides on the queue that wakes its workers.
    Jobs of one `group` run one after the other; empty for none. `resources` are files beside the source.
    """

    id: str
    kind: str
    submitted_at: datetime
    parameters: Mapping[str, Any]
    source: Source
    origin: str | None = None
    batch: str | None = None
    traceparent: str = ""
    webhook: str = ""
    priority: Priority = Priority.NORMAL
    group: str = ""
    resources: tuple[Resource, ...] = ()

    @property
    def webhook_to(self) -> str:
        """Scheme, host and port of the webhook: all of it that is shown, for the rest may be the receiver's secret."""
        return "://".join(urlsplit(self.webhook)[:2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as its row has it.

    Args:
        spec: what never changes.
        version: the row's version.
        state: where the job is.
        reason: why it is there, for a person; empty where there is nothing to say.
        attempt: the number of the latest attempt, 0 before the first.
        token: the running attempt's lease token, empty when nobody holds a lease.
        lease: how many seconds its holder's lease is; 0 when nobody ever held one.
        attempts: all of them, oldest first.
        retries_at: when a queued job is tried again, if it waits.
        result: of a completed job.
        progress: how far the attempt has come that runs: `percent` and `eta_seconds`.
        renewal: the version from which the lease counts, where progress was written since.
    """

    spec: JobSpec
    version: str
    state: JobState
    reason: str = ""
    attempt: int = 0
    token: str = ""
    lease: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    retries_at: datetime | None = None
    result: Result | None = None
    progress: Mapping[str, Any] | None = field(default=None)
    renewal: str = ""

    @property
    def held_since(self) -> str:
        """The version of the write from which the lease counts: what its holder only told of progress does not."""
        return self.renewal or self.version

    @property
    def id(self) -> str:
        """The job's id; ids sort by time of submission."""
        return self.spec.id

    @property
    def source(self) -> Source:
        """The asset; of one that is fetched from a URL, with the size and the type that it last had."""
        found = next((each.fetched for each in reversed(self.attempts) if each.fetched), None)
        return replace(self.spec.source, size=found.size, type=found.type) if found else self.spec.source

    @property
    def charges(self) -> Charges:
        """Charges so far, counted from the recorded ends."""
        return Charges.of(attempt.end for attempt in self.attempts)

    def to_json(self) -> dict[str, Any]:
        """The job as JSON: the same in the API, on the command line and in webhooks."""
        spec = self.spec
        return {
            "id": spec.id,
            "kind": spec.kind,
            "state": self.state,
            "reason": self.reason or None,
            "submitted_at": clock.iso(spec.submitted_at),
            "started_at": clock.iso(self.started_at) if self.started_at else None,
            "finished_at": clock.iso(self.finished_at) if self.finished_at else None,
            "retries_at": clock.iso(self.retries_at) if self.retries_at else None,
            "parameters": dict(spec.parameters),
            "source": self.source.to_json(),
            "result": self.result.to_json() if self.result else None,
            "progress": dict(self.progress) if self.progress else None,
            "charges": self.charges.to_json(),
            "attempts": [attempt.to_json() for attempt in self.attempts],
            "origin": spec.origin,
            "batch": spec.batch,
            "webhook": spec.webhook_to if spec.webhook else None,
        } | _only_where_told(spec)


def _only_where_told(spec: JobSpec) -> dict[str, Any]:
    """What most jobs don't have."""
    told: dict[str, Any] = {} if spec.priority is Priority.NORMAL else {"priority": spec.priority}
    told |= {"resources": [each.to_json() for each in spec.resources]} if spec.resources else {}
    return told | ({"group": spec.group} if spec.group else {})


def new_id() -> str:
    """A UUID of version 7 (RFC 9562, method 3): ids made later sort later, to a quarter of a microsecond."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    value = (seconds * 1000 + milliseconds) << 80 | 0x7 << 76 | fraction << 64
    value |= 0b10 << 62 | int.from_bytes(os.urandom(8)) >> 2
    return str(UUID(int=value))
