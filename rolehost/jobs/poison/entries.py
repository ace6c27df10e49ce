"""What lies on the desk: jobs that ended badly, and dead letters that belong to no such job."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rolehost import clock
from rolehost.errors import NotAWakeUpError
from rolehost.jobs.job import CAPS, Job, JobState
from rolehost.jobs.levels import kind_of
from rolehost.jobs.wake_up import WakeUp

if TYPE_CHECKING:
    from rolehost.jobs.poison.provenance import Provenance
    from rolehost.jobs.replays import Replay
    from rolehost.stores import QueueMessage

CAUSES = (*CAPS, "deadline", "poison_now")
"""The words that a poisoned job's reason begins with."""
LETTER_CAUSES = ("orphan", "malformed")
_MARK = "m-"


class Sort(StrEnum):
    """What an entry is."""

    JOB = "job"
    ORPHAN = "orphan"
    MALFORMED = "malformed"
    STRAY = "stray"


_WHY_NOT = {
    Sort.ORPHAN: "its job is not there any more, or never was: there is no input that could be run again",
    Sort.MALFORMED: "the message can't be read: it names no job",
    Sort.STRAY: "its job did not end badly: only its message was set aside",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter that is no poisoned job's.

    Args:
        queue: the queue that it was set aside from.
        message: as it lies there.
        job: the job that it names; empty if it can't be read.
        state: of that job; None where there is none.
    """

    queue: str
    message: QueueMessage
    job: str = ""
    state: JobState | None = None

    @property
    def id(self) -> str:
        """An id that stands for queue and message, and is no job's."""
        return letter_id(self.queue, self.message.id)

    @property
    def body(self) -> str:
        """The message's body; of the URLs in one of ours only what is shown of them anywhere."""
        try:
            woken = WakeUp.decode(self.message.body)
        except NotAWakeUpError:
            return self.message.body
        spec = woken.spec
        if spec is None or not (spec.webhook or spec.source.url or any(each.url for each in spec.resources)):
            return self.message.body
        source = replace(spec.source, url=spec.source.shown_url)
        resources = tuple(replace(each, url=each.shown_url) for each in spec.resources)
        return replace(woken, spec=replace(spec, webhook=spec.webhook_to, source=source, resources=resources)).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing on the desk: a job, or a letter.

    Args:
        job: a poisoned or failed job.
        letter: a message without one.
        replays: what the job was replayed as, the oldest first.
    """

    job: Job | None = None
    letter: Letter | None = None
    replays: tuple[Replay, ...] = ()

    @property
    def id(self) -> str:
        """What it is called by: the job's id, or the letter's."""
        return self.job.id if self.job else self.letter.id if self.letter else ""

    @property
    def sort(self) -> Sort:
        """What it is."""
        if self.letter is None:
            return Sort.JOB
        if not self.letter.job:
            return Sort.MALFORMED
        return Sort.ORPHAN if self.letter.state is None else Sort.STRAY

    @property
    def kind(self) -> str:
        """The kind of job."""
        if self.letter:
            return kind_of(self.letter.queue) or self.letter.queue
        return self.job.spec.kind if self.job else ""

    @property
    def cause(self) -> str:
        """Why it is here, in one word: a budget, `deadline`, `poison_now`; else how the last attempt ended."""
        if self.letter:
            return self.sort if self.sort is not Sort.STRAY else self.letter.message.reason or Sort.STRAY
        return cause_of(self.job) if self.job else ""

    @property
    def reason(self) -> str:
        """Why it is here, for a person."""
        if self.letter:
            return self.letter.message.description or self.letter.message.reason
        return self.job.reason if self.job else ""

    @property
    def since(self) -> datetime | None:
        """When it was set aside; a message doesn't say."""
        return self.job.finished_at or self.job.spec.submitted_at if self.job else None

    @property
    def why_not(self) -> str:
        """Why it can't be replayed; empty if it can."""
        return _WHY_NOT.get(self.sort, "")

    def to_json(self) -> dict[str, Any]:
        """The entry as the API shows it."""
        letter = self.letter
        return {
            "id": self.id,
            "sort": self.sort,
            "kind": self.kind,
            "cause": self.cause,
            "reason": self.reason or None,
            "since": clock.iso(self.since) if self.since else None,
            "why_not_replayable": self.why_not or None,
            "replays": [replay.to_json() for replay in self.replays],
            "job": self.job.to_json() if self.job else None,
            "message": {
                "queue": letter.queue,
                "id": letter.message.id,
                "reason": letter.message.reason,
                "description": letter.message.description,
                "bytes": len(letter.message.body.encode()),
                "job": letter.job or None,
                "job_state": letter.state,
            }
            if letter
            else None,
        }

    def to_detailed_json(self, kin: Provenance) -> dict[str, Any]:
        """The entry, what each attempt printed (as far as the row holds it), or a message's body, and the chain."""
        outputs = [
            {"number": attempt.number, "detail": attempt.detail, "stdout": attempt.stdout, "stderr": attempt.stderr}
            for attempt in (self.job.attempts if self.job else ())
        ]
        body = self.letter.body if self.letter else None
        return self.to_json() | {"outputs": outputs, "body": body, "provenance": kin.to_json()}


def cause_of(job: Job) -> str:
    """The budget or the word that a poisoned job's reason begins with, else how its last attempt ended."""
    word = job.reason.partition(":")[0]
    return word if word in CAUSES else last_end(job)


def last_end(job: Job) -> str:
    """How the last attempt ended; empty if there was none."""
    return (job.attempts[-1].end or "") if job.attempts else ""


def letter_id(queue: str, message_id: str) -> str:
    """`m-`, then queue and message in letters that stand in any address."""
    packed = base64.urlsafe_b64encode(f"{queue}\0{message_id}".encode(errors="replace")).decode()
    return _MARK + packed.rstrip("=")


def from_letter_id(text: str) -> tuple[str, str] | None:
    """Queue and message; None if this is no letter's id."""
    if not text.startswith(_MARK):
        return None
    packed = text.removeprefix(_MARK)
    packed += "=" * (-len(packed) % 4)
    try:
        queue, mark, message_id = base64.b64decode(packed, b"-_", validate=True).decode().partition("\0")
    except (binascii.Error, ValueError):
        return None
    return (queue, message_id) if mark and kind_of(queue) else None
