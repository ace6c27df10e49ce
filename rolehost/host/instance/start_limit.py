"""How long a start may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rolehost import clock
from rolehost.telemetry import emit

_SLOW_SECONDS = 300.0


async def start_overdue(limit: float, is_ready: Callable[[], bool]) -> None:
    """Return once the time for a start is over; never, where the instance was ready by then.

    A start of five minutes is told (the original's advice), one of the limit is cut (its fabric's 30 minutes).

    Args:
        limit: seconds from now.
        is_ready: whether the instance has been ready.
    """
    if limit > _SLOW_SECONDS:
        await clock.sleep(_SLOW_SECONDS)
        limit -= _SLOW_SECONDS
        if not is_ready():
            emit("instance.start_slow", seconds=_SLOW_SECONDS)
    await clock.sleep(limit)
    if is_ready():
        await asyncio.Event().wait()
