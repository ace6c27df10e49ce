"""What a batch is: its states, its items, its counts, and how they stand in its row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from rolehost import clock
from rolehost.errors import InvalidParameterError
from rolehost.jobs.codec import dumps
from rolehost.jobs.job import JobState, Priority
from rolehost.stores import Row, Scalar

PAGE = 50
"""Items of a page."""
LONGEST_NAME = 100
MOST_TROUBLES = 20
"""Items that did not complete and are named in the row; the ZIP names all."""
WAITING = "waiting"
"""What an item is counted as that has no job yet."""
REMOVED = "removed"
"""What one is counted as whose job was purged before it was counted otherwise."""
COUNTED = (WAITING, *(state.value for state in JobState), REMOVED)
LIVE = "live"
"""The tag of a row that somebody has to drive."""


class BatchState(StrEnum):
    """Where a batch is."""

    OPEN = "open"
    SEALING = "sealing"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self in {BatchState.DONE, BatchState.CANCELLED}

    @property
    def tag(self) -> str:
        """What the row is listed by."""
        return self.value if self.over or self is BatchState.OPEN else LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What becomes one job.

    Args:
        id: the job's.
        name: of the file; only ever shown.
        folder: below which its result lies in the ZIP, `a/b`; empty for none.
        size: bytes.
        type: media type by the content.
        parameters: of the job, checked.
    """

    id: str
    name: str
    folder: str
    size: int
    type: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Then:
    """The job that starts when the batch is done, on the ZIP of its results.

    Args:
        kind: the kind of job.
        parameters: checked.
    """

    kind: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An item that did not complete."""

    id: str
    name: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """What is asked for.

    Args:
        name: 1 to 100 printable characters; empty: the batch has none.
        kind: the kind of its jobs.
        given: their parameters, names to text.
        then: what follows.
        webhook: the URL that is told of each job's end, checked; empty for none.
        priority: of the jobs.
        submitter: who asks, for fairness: batches take turns by it.
    """

    name: str = ""
    kind: str = "thumbnail"
    given: Mapping[str, str] = field(default_factory=dict)
    then: Then | None = None
    webhook: str = ""
    priority: Priority = Priority.NORMAL
    submitter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as its row has it; the package's docstring says what the fields mean for each other.

    Args:
        id: a UUID of version 7.
        version: the row's.
        asked: what never changes.
        items: how many there are; None until the list is fixed.
        begun: a position: items before it were let in.
        placed: a position: items before it have a job.
        pages: numbers of the pages that are looked at.
        counts: items of the pages that no longer are, by state.
        seen: items of those that are, by state, at `as_of`.
        troubles: some of those that did not complete.
        seen_troubles: the same, of pages that are looked at.
    """

    id: str
    version: str
    state: BatchState
    asked: NewBatch
    made_at: datetime
    sealed_at: datetime | None = None
    ended_at: datetime | None = None
    as_of: datetime
    items: int | None = None
    begun: int = 0
    placed: int = 0
    pages: tuple[int, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, int] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    seen_troubles: tuple[Trouble, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return self.asked.name or self.id

    @property
    def then_id(self) -> str:
        """The id of the job that follows: there is one such job, whoever makes it."""
        return item_id(self.id, "then")

    @property
    def tally(self) -> dict[str, int]:
        """Items by state, zeros included; they add up to all items once the list is fixed."""
        told = {state: self.counts.get(state, 0) + self.seen.get(state, 0) for state in COUNTED}
        told[WAITING] = (self.items or 0) - sum(told.values())
        return told

    @property
    def ended(self) -> int:
        """Items that nothing more happens to."""
        return sum(count for state, count in self.tally.items() if state not in {WAITING, "queued", "running"})

    @property
    def all_completed(self) -> bool:
        """Whether it is done, and every item of it is completed."""
        return self.state is BatchState.DONE and self.tally[JobState.COMPLETED] == self.items

    def to_json(self) -> dict[str, Any]:
        """The batch, the same in the API and on the command line."""
        asked, then = self.asked, self.asked.then
        return {
            "id": self.id,
            "name": asked.name or None,
            "kind": asked.kind,
            "state": self.state,
            "parameters": dict(asked.given),
            "priority": asked.priority,
            "submitter": asked.submitter or None,
            "made_at": clock.iso(self.made_at),
            "sealed_at": clock.iso(self.sealed_at) if self.sealed_at else None,
            "ended_at": clock.iso(self.ended_at) if self.ended_at else None,
            "items": self.items,
            "counts": self.tally,
            "as_of": clock.iso(self.as_of),
            "troubles": [asdict(each) for each in (*self.troubles, *self.seen_troubles)[:MOST_TROUBLES]],
            "then": {"kind": then.kind, "parameters": dict(then.parameters), "job": self.then_id} if then else None,
            "webhook": "://".join(urlsplit(asked.webhook)[:2]) if asked.webhook else None,
        }


def item_id(batch: str, told: str) -> str:
    """The id of a job of a batch: a UUID of version 7 with the batch's time, the rest from what names the item.

    Args:
        batch: the batch's id.
        told: what names the item within it.
    """
    digest = int.from_bytes(hashlib.sha256(f"{batch}\0{told}".encode(errors="surrogatepass")).digest()[:10])
    milliseconds = UUID(batch).int >> 80
    value = milliseconds << 80 | 0x7 << 76 | (digest >> 68) << 64 | 0b10 << 62 | digest & (1 << 62) - 1
    return str(UUID(int=value))


def check_name(name: str) -> str:
    """A batch's name, if it may be one.

    Raises:
        InvalidParameterError: it may not.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise InvalidParameterError(f"a batch's name has 1 to {LONGEST_NAME} printable characters", field="name")
    return name


def asked_to_fields(asked: NewBatch) -> dict[str, Scalar]:
    """What never changes, as a new row has it."""
    return {
        "name": asked.name,
        "kind": asked.kind,
        "parameters": dumps(dict(asked.given)),
        "then": dumps(asdict(asked.then)) if asked.then else None,
        "webhook": asked.webhook or None,
        "priority": asked.priority,
        "submitter": asked.submitter,
        "made_at": clock.iso(clock.now()),
        "state": BatchState.OPEN,
        "as_of": clock.iso(clock.now()),
    }


def changes_to_fields(changes: Mapping[str, Any]) -> dict[str, Scalar]:
    """Changed attributes of a `Batch` as fields of its row."""
    return {name: _to_field(value) for name, value in changes.items()}


def _to_field(value: Any) -> Scalar:
    match value:
        case datetime():
            return clock.iso(value)
        case Mapping():
            return dumps({name: count for name, count in value.items() if count})
        case tuple() | list():
            return dumps([asdict(each) if isinstance(each, Trouble) else each for each in value])
        case str() | int() | None:
            return value
    raise AssertionError(value)


def batch_from_row(row: Row) -> Batch:
    """A batch from its row."""
    facts: dict[str, Any] = dict(row.fields)
    return Batch(
        id=row.key,
        version=row.version,
        state=BatchState(facts["state"]),
        asked=_asked(facts),
        made_at=clock.from_iso(facts["made_at"]),
        sealed_at=clock.from_iso(facts["sealed_at"]) if facts.get("sealed_at") else None,
        ended_at=clock.from_iso(facts["ended_at"]) if facts.get("ended_at") else None,
        as_of=clock.from_iso(facts["as_of"]),
        items=facts.get("items"),
        begun=facts.get("begun", 0),
        placed=facts.get("placed", 0),
        pages=tuple(json.loads(facts.get("pages", "[]"))),
        counts=json.loads(facts.get("counts", "{}")),
        seen=json.loads(facts.get("seen", "{}")),
        troubles=_troubles(facts.get("troubles", "[]")),
        seen_troubles=_troubles(facts.get("seen_troubles", "[]")),
    )


def _asked(facts: Mapping[str, Any]) -> NewBatch:
    return NewBatch(
        name=facts.get("name") or "",
        kind=facts["kind"],
        given=json.loads(facts["parameters"]),
        then=Then(**json.loads(facts["then"])) if facts.get("then") else None,
        webhook=facts.get("webhook") or "",
        priority=Priority(facts["priority"]),
        submitter=facts.get("submitter") or "",
    )


def _troubles(text: str) -> tuple[Trouble, ...]:
    told: Sequence[Mapping[str, str]] = json.loads(text)
    return tuple(Trouble(**each) for each in told)
