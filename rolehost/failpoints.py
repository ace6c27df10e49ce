"""Points of a job's way at which the project's tests strike a process: it dies, fails, or stands still there.

The package has only the places. What strikes is code of the tests, loaded into a process by the role under test, which
calls `install`: nothing in the package does, and no setting or variable of it can. Elsewhere a point costs one look at
an empty list.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from rolehost import clock

Strike: TypeAlias = Callable[[str, str], float]
"""Told the point's name and the job's id; it raises, ends the process, or answers how many seconds to stand still."""

_strikes: list[Strike] = []


def install(strike: Strike) -> Callable[[], None]:
    """Have a test's strike called at every point; the answer is a function that takes it away again."""
    _strikes.append(strike)
    return lambda: _strikes.remove(strike)


async def failpoint(name: str, job: str) -> None:
    """A point on the loop.

    Args:
        name: the point's own.
        job: the id of the job that has come so far, perhaps with more behind it, after a colon.
    """
    for strike in _strikes:
        await clock.sleep(strike(name, job.partition(":")[0]))


def crossed(name: str, job: str) -> None:
    """A point in a thread.

    Args:
        name: the point's own.
        job: the id of the job, perhaps as the second segment of a blob's name.
    """
    for strike in _strikes:
        time.sleep(strike(name, job.split("/")[1] if "/" in job else job))
