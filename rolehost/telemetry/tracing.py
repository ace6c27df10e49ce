"""Traces that follow a job: from the request that submitted it, through the queue, into the console application.

What travels is W3C's `traceparent`, with or without a tracing library: it comes in a request's header (or a command's
variable TRACEPARENT), is kept in the job's row and message, and goes on to the console application as TRACEPARENT. Each
step passes on a span id of its own. With the extra `otel` and an exporter configured, each step is a span, too.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

HEADER = "traceparent"
VARIABLE = "TRACEPARENT"
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_LONGEST = 256
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A place in a trace: W3C Trace Context, version 00.

    Args:
        trace_id: 32 hexadecimal digits.
        span_id: 16 of them.
        flags: 1: the sender may have recorded it. What begins here has it, so that an application that records, may.
    """

    trace_id: str
    span_id: str
    flags: int = _SAMPLED

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a header's value; None where it is none. A later version is read as far as it is the same."""
        found = _FORM.fullmatch(text.strip()) if len(text) <= _LONGEST else None
        if found is None or (found[1] == "00" and found[5]):
            return None
        return cls(found[2], found[3], int(found[4], 16) & _SAMPLED)

    @classmethod
    def begin(cls) -> Self:
        """The root of a new trace."""
        return cls(secrets.token_hex(16), secrets.token_hex(8))

    def child(self) -> TraceParent:
        """A place below this one."""
        return replace(self, span_id=secrets.token_hex(8))


@dataclass(slots=True)
class Span:
    """A step of a trace.

    Args:
        place: what is passed on from here.
        facts: what is known of the step; set more while it lasts.
    """

    place: TraceParent
    facts: dict[str, Any] = field(default_factory=dict)


class Recorder(Protocol):
    """A tracing library."""

    def record(
        self, name: str, kind: str, parent: TraceParent | None, facts: dict[str, Any]
    ) -> AbstractContextManager[Span]:
        """A span for as long as the block lasts."""


_current: ContextVar[TraceParent | None] = ContextVar("traceparent", default=None)
_recorders: list[Recorder] = []


def record_by(recorder: Recorder) -> None:
    """Have a library record spans from now on."""
    _recorders[:] = [recorder]


def record_no_more() -> None:
    """Pass on, and record nothing."""
    _recorders.clear()


def current() -> TraceParent | None:
    """Where in a trace we are; a command is where the variable TRACEPARENT says."""
    return _current.get() or TraceParent.parse(os.environ.get(VARIABLE, ""))


def variables() -> dict[str, str]:
    """What a console application that is started here gets in its environment."""
    place = _current.get()
    return {VARIABLE: str(place)} if place else {}


@contextmanager
def incoming(headers: Sequence[str]) -> Iterator[None]:
    """What happens inside belongs to a request.

    Args:
        headers: the values of its `traceparent`; more than one are as none. Without one a trace begins.
    """
    place = TraceParent.parse(headers[0]) if len(headers) == 1 else None
    token = _current.set(place or TraceParent.begin())
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def span(name: str, *, kind: str, parent: str | None = None, **facts: Any) -> Iterator[Span]:
    """A step of a trace.

    Args:
        name: of few values: no id in it.
        kind: `producer`, `consumer` or `internal`.
        parent: the traceparent that came with the work; None: where we are.
        facts: what is known of it.
    """
    above = current() if parent is None else TraceParent.parse(parent)
    if _recorders:
        with _recorders[0].record(name, kind, above, facts) as step, _at(step.place):
            yield step
        return
    place = above.child() if above else TraceParent.begin()
    with _at(place):
        yield Span(place, facts)


@contextmanager
def _at(place: TraceParent) -> Iterator[None]:
    token = _current.set(place)
    try:
        yield
    finally:
        _current.reset(token)
