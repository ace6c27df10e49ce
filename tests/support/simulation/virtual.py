"""Time that passes only when everybody waits: an hour of retries takes a few milliseconds."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from selectors import SelectSelector
from typing import Any
from unittest.mock import patch

from rolehost import clock
from rolehost.jobs import garbage
from rolehost.workers import lease

BEGINNING = datetime(2026, 11, 21, tzinfo=UTC)
INPUT_IS_OLD = timedelta(minutes=2)
"""Far less than in truth, and less than a freeze may last: only the tombstone keeps a late submitter from its loss."""

skew: ContextVar[float] = ContextVar("skew", default=0.0)
"""By how many seconds the wall clock of the running process is wrong."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose waits take no time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Seconds since the beginning of the schedule."""
        return self.seconds


class _Selector(SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for ever: the schedule is stuck")
        # A little more than asked for: a sum of fractions may fall short of the moment that a timer waits for.
        self._loop.seconds += timeout + 1e-6 if timeout > 0 else 0.0
        return []


@contextmanager
def simulated(loop: VirtualLoop, seed: int) -> Iterator[None]:
    """Clocks, chance and threads of the code under test are the schedule's."""
    chance = random.Random(seed)  # noqa: S311 - a schedule has to be repeatable

    async def inline(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    random.seed(seed)
    with (
        patch.object(clock, "monotonic", loop.time),
        patch.object(clock, "now", lambda: BEGINNING + timedelta(seconds=loop.time() + skew.get())),
        patch.object(asyncio, "to_thread", inline),
        patch.object(secrets, "token_hex", lambda size: chance.randbytes(size).hex()),
        patch.object(garbage, "OLD_INPUT", INPUT_IS_OLD),
        patch.object(lease, "LOOK_EVERY", 7.0),
    ):
        yield
