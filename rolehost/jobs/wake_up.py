"""The body of a message: which job to wake, and enough of its row that a first claim needs no read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from rolehost.errors import NotAWakeUpError
from rolehost.jobs.codec import spec_from_json, spec_to_json
from rolehost.jobs.job import Charges, JobSpec

FORMAT = 1
_ID = re.compile(r"[^/\\#?]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeUp:
    """What a message says.

    Args:
        job: the job's id.
        spec: what never changes in it; None in a wake-up whose sender had no row at hand.
        version: a version of the row that was written or read as `queued`, hence claimable; else None.
        attempt: the latest attempt's number in that version.
        charges: the charges in that version.
        seen: a version under someone's lease, seen a whole lease before this message is received again.
    """

    job: str
    spec: JobSpec | None = None
    version: str | None = None
    attempt: int = 0
    charges: Charges = field(default_factory=Charges)
    seen: str | None = None

    def encode(self) -> str:
        """The message's body."""
        facts: dict[str, Any] = {"rolehost": FORMAT, "job": self.job}
        if self.spec is not None:
            facts["spec"] = spec_to_json(self.spec)
        if self.version is not None:
            facts |= {"version": self.version, "attempt": self.attempt, "charges": self.charges.to_json()}
        if self.seen is not None:
            facts["seen"] = self.seen
        return json.dumps(facts, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def decode(cls, body: str) -> WakeUp:
        """Read a body.

        Raises:
            NotAWakeUpError: it is no JSON, of another format, or not whole.
        """
        try:
            facts = json.loads(body)
            if facts["rolehost"] != FORMAT:
                raise NotAWakeUpError(f"a message of format {facts['rolehost']!r}; this release reads format {FORMAT}")
            return cls(
                job=_id(facts["job"]),
                spec=_spec(facts),
                version=_version(facts.get("version")),
                attempt=_count(facts.get("attempt", 0)),
                charges=Charges(**{budget: _count(count) for budget, count in facts.get("charges", {}).items()}),
                seen=_version(facts.get("seen")),
            )
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise NotAWakeUpError(f"not a wake-up message: {error!r}") from error


def _spec(facts: dict[str, Any]) -> JobSpec | None:
    if not facts.get("spec"):
        return None
    spec = spec_from_json(facts["spec"])
    if spec.id != facts["job"] or spec.submitted_at.tzinfo is None:
        raise ValueError("the spec is not the job's")
    return spec


def _id(value: Any) -> str:
    """An id that a row may have: to look for another is an error at some stores, as often as the message comes."""
    if not (isinstance(value, str) and _ID.fullmatch(value) and value.isprintable()):
        raise ValueError("that is no job's id")
    return value


def _version(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError(f"{value!r} is no row's version")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} counts nothing")
    return value
