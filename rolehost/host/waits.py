"""Waiting for the first of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self


class _Waiting(list[asyncio.Future[Any]]):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for waiting in self:
            waiting.cancel()


async def first(*waits: asyncio.Task[Any] | Coroutine[Any, Any, Any]) -> int:
    """The index of the first to be done, the earliest if several are; tasks are left running, coroutines are not.

    Args:
        waits: at least one.
    """
    with _Waiting() as ours:
        tasks: list[asyncio.Task[Any]] = []
        for wait in waits:
            task = wait if isinstance(wait, asyncio.Task) else asyncio.create_task(wait)
            if task is not wait:
                ours.append(task)
            tasks.append(task)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(index for index, task in enumerate(tasks) if task.done())
