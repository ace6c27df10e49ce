"""What is looked for on the desk, and the two small languages of it: ages (`7d`, `1h30m`) and rates (`5/s`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import JobState
from rolehost.jobs.poison.entries import LETTER_CAUSES, Entry, last_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rolehost.jobs.job import Job

_AGE = re.compile(r"(?=[0-9])(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,8})s)?", re.ASCII)
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(?:/(s|min|h))?", re.ASCII)
_PER = {"s": 1.0, "min": 60.0, "h": 3600.0, None: 1.0}
LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter: an entry must pass all of it. Texts are looked for without regard to case.

    Args:
        text: anywhere in the reason, the attempts' details and stderr (what the row holds of it), the source's name;
            of a message in its description and body.
        reason: in the reason only.
        cause: the first word of the reason (`app`, `resource`, `lost`, `deadline`, `poison_now`, `orphan`,
            `malformed`), or how the last attempt ended (`timeout`, `bad_input`, ...).
        kind: the kind of job.
        state: `poisoned`, `failed`, or None for both; messages count as poisoned.
        older: set aside at least so long ago; of messages that is not known, so none passes.
        newer: set aside at most so long ago; the same.
        replayed: False for what was not replayed yet, True for what was, None for both.
        jobs_only: no messages, unless the cause is one that only they have.
    """

    text: str = ""
    reason: str = ""
    cause: str = ""
    kind: str = ""
    state: JobState | None = JobState.POISONED
    older: timedelta | None = None
    newer: timedelta | None = None
    replayed: bool | None = False
    jobs_only: bool = False

    @property
    def everything(self) -> bool:
        """Whether nothing narrows it down but the state and the replays."""
        return not (self.text or self.reason or self.cause or self.kind) and self.older is None and self.newer is None

    @property
    def states(self) -> tuple[JobState, ...]:
        """The states whose rows are looked at."""
        if self.cause in LETTER_CAUSES:
            return ()
        return (JobState.POISONED, JobState.FAILED) if self.state is None else (self.state,)

    @property
    def letters(self) -> bool:
        """Whether messages can pass."""
        if self.state is JobState.FAILED or self.replayed or self.older is not None or self.newer is not None:
            return False
        return not self.jobs_only or self.cause in LETTER_CAUSES

    def takes_job(self, job: Job) -> bool:
        """Whether a job passes, its replays left aside."""
        entry = Entry(job=job)
        if self.kind and job.spec.kind != self.kind:
            return False
        if self.cause and self.cause not in {entry.cause, last_end(job)}:
            return False
        age = clock.now() - (entry.since or job.spec.submitted_at)
        if (self.older is not None and age < self.older) or (self.newer is not None and age > self.newer):
            return False
        return _has(job.reason, self.reason) and (not self.text or any(_has(each, self.text) for each in _texts(job)))

    def takes_letter(self, entry: Entry) -> bool:
        """Whether a message passes."""
        if (self.kind and entry.kind != self.kind) or (self.cause and entry.cause != self.cause):
            return False
        if entry.letter is None or not _has(entry.reason, self.reason):
            return False
        message = entry.letter.message
        return any(_has(each, self.text) for each in (message.reason, message.description, message.body))


def parse_age(text: str, field: str = "older") -> timedelta:
    """`45s`, `90m`, `36h`, `7d`, `1d12h`.

    Raises:
        InvalidParameterError: it is no age.
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise InvalidParameterError(f"{field} must be an age such as 45s, 90m, 36h or 7d, not {text[:40]!r}", field)
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def parse_rate(text: str, field: str = "rate") -> float:
    """`5/s`, `30/min`, `100/h`, or a plain number per second.

    Returns:
        How many in a second.

    Raises:
        InvalidParameterError: it is no rate, or zero.
    """
    found = _RATE.fullmatch(text.strip())
    rate = float(found[1]) / _PER[found[2]] if found else 0.0
    if rate <= 0:
        raise InvalidParameterError(f"{field} must be a rate such as 5/s, 30/min or 100/h, not {text[:40]!r}", field)
    return rate


def _has(text: str, wanted: str) -> bool:
    return not wanted or wanted.casefold() in text.casefold()


def _texts(job: Job) -> Iterator[str]:
    yield job.reason
    yield job.spec.source.name
    for attempt in job.attempts:
        yield attempt.detail
        yield attempt.stderr
