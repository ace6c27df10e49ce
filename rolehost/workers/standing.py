"""Receives that wait for several queues at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from rolehost import clock
from rolehost.errors import StoreError

if TYPE_CHECKING:
    from rolehost.stores import QueueMessage

Messages: TypeAlias = "Sequence[QueueMessage]"

GRACE: Final = 0.25
"""Seconds that a better level may take for its first answer, where the broker needs a moment to push."""
KEPT: Final = 1.0
"""Seconds that messages are kept for the next who asks, before others may have them."""


class Ask(Protocol):
    """Receives from one level."""

    def __call__(self, level: str, *, wait: float) -> Coroutine[None, None, Messages]:
        """Wait so many seconds for messages."""


@dataclass(frozen=True, slots=True, eq=False)
class _Receive:
    """One that is under way, and when it began."""

    task: asyncio.Task[Messages]
    began: float

    @property
    def brought(self) -> bool:
        """Messages; an error counts too, for whoever asks has to hear of it."""
        task = self.task
        return task.done() and not task.cancelled() and bool(task.exception() or task.result())


class Standing:
    """One receive for each level. Those that are not chosen go on: what they bring is there when somebody asks next.

    Args:
        release: gives a message back.
        grace: see `GRACE`; 0 where an answer is there at once.
    """

    def __init__(self, release: Callable[[QueueMessage], Awaitable[None]], *, grace: float = GRACE) -> None:
        self._release = release
        self._grace = grace
        self._under_way: dict[str, _Receive] = {}
        self._working: set[asyncio.Task[None]] = set()

    async def first(self, order: Sequence[str], ask: Ask, *, wait: float) -> tuple[str, Messages] | None:
        """Wait until a level brings messages, the first in order of several; None once one of them brought nothing.

        Raises:
            StoreError: that level has an error.
        """
        self._forget_the_empty()
        for level in order:
            if level not in self._under_way:
                task = asyncio.create_task(ask(level, wait=wait))
                self._under_way[level] = _Receive(task, clock.monotonic())
                task.add_done_callback(self._keep_for_a_moment)
        chosen = await self._chosen(order)
        if chosen is None:
            return None
        return chosen, self._under_way.pop(chosen).task.result()

    def _forget_the_empty(self) -> None:
        self._under_way = {
            level: each for level, each in self._under_way.items() if each.brought or not each.task.done()
        }

    async def _chosen(self, order: Sequence[str]) -> str | None:
        tasks = [each.task for each in self._under_way.values()]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        chosen = self._best(order)
        if chosen is None:  # one has waited long enough: whoever asks again has all levels waited for
            return None
        for level in order[: order.index(chosen)]:
            better = self._under_way.get(level)
            left = better.began + self._grace - clock.monotonic() if better else 0.0
            if better and left > 0 and not better.task.done():
                await asyncio.wait([better.task], timeout=left)
        return self._best(order)

    def _best(self, order: Iterable[str]) -> str | None:
        return next((level for level in order if level in self._under_way and self._under_way[level].brought), None)

    def _keep_for_a_moment(self, task: asyncio.Task[Messages]) -> None:
        if not task.cancelled() and not task.exception():
            asyncio.get_running_loop().call_later(KEPT, self._drop, task)

    def _drop(self, task: asyncio.Task[Messages]) -> None:
        """Nobody asked in time."""
        for level, each in list(self._under_way.items()):
            if each.task is task:
                del self._under_way[level]
                work = asyncio.create_task(self._give_back([task]))
                self._working.add(work)
                work.add_done_callback(self._working.discard)

    async def end(self) -> None:
        """Receive no more, and give back what nobody has heard of."""
        tasks = [each.task for each in self._under_way.values()]
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._give_back(tasks)
        if self._working:
            await asyncio.wait(set(self._working))

    async def _give_back(self, tasks: Iterable[asyncio.Task[Messages]]) -> None:
        brought = [task.result() for task in tasks if not task.cancelled() and not task.exception()]
        await asyncio.gather(*(self._given_back(message) for messages in brought for message in messages))

    async def _given_back(self, message: QueueMessage) -> None:
        with suppress(StoreError):  # it comes back by itself when its hiding is over
            await self._release(message)
