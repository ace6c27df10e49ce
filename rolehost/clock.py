"""The clock: the one place where tests replace time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


def now() -> datetime:
    """The wall clock, aware and in UTC: for display and for what lasts days, never to decide about a lease."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds on a clock that never steps back: for leases, deadlines and durations."""
    return time.monotonic()


def since_boot() -> float:
    """Seconds that the machine has been up, asleep or awake: one clock for all of its processes, which never steps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


async def sleep(seconds: float) -> None:
    """Wait without holding up the loop."""
    await asyncio.sleep(seconds)


def iso(moment: datetime) -> str:
    """`2026-11-20T12:34:56.789Z`: the form of every time in rows, JSON and pages."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> datetime:
    """The reverse of `iso`."""
    return datetime.fromisoformat(text)
