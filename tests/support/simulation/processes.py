"""Processes that may freeze or die, and what may happen to any of their calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from rolehost import clock
from rolehost.errors import StoreError, StoreUnavailableError
from rolehost.testing import Faults

if TYPE_CHECKING:
    from support.simulation.bus import BusQueue
    from support.simulation.world import World

Answer = TypeVar("Answer")


@dataclass(eq=False)
class Process:
    """A process that may freeze or die; its tasks are known, its wall clock may be wrong."""

    name: str
    skew: float
    dead: bool = False
    thaws_at: float = 0.0
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    connection: BusQueue | None = None

    def die(self) -> None:
        """Nothing of it has any effect from now on; a broker notices that its connection is gone."""
        self.dead = True
        if self.connection:
            self.connection.unlock(self)
        for task in tuple(self.tasks):
            task.cancel()

    async def alive(self) -> None:
        """Go on, once it is not frozen; never, if it is dead."""
        while not self.dead and (left := self.thaws_at - clock.monotonic()) > 0:  # noqa: ASYNC110 - simulated
            await asyncio.sleep(left)
        if self.dead:
            raise asyncio.CancelledError


class Ills(Faults):
    """What may happen to any call to a store.

    It fails before it is applied, is applied with its answer lost, is applied much later than its error, is followed by
    a long freeze of the process, or by its death.
    """

    def __init__(self, world: World, process: Process) -> None:
        super().__init__()
        self._world = world
        self._process = process

    async def around(self, call: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        world, chance, process = self._world, self._world.chance, self._process
        await process.alive()
        await asyncio.sleep(0.01 + 0.3 * chance.random())
        self._freeze_perhaps()
        await process.alive()
        if not world.trouble:
            return await work()
        dice = chance.random()
        if dice < world.p_die:
            process.die()
            raise asyncio.CancelledError
        if dice < world.p_die + world.p_lost:
            await self._lose(call, work)
        answer = await work()
        if dice > 1 - world.p_die:
            process.die()
        self._freeze_perhaps()
        await process.alive()
        return answer

    def _freeze_perhaps(self) -> None:
        if self._world.trouble and self._world.chance.random() < self._world.p_freeze:
            self._process.thaws_at = clock.monotonic() + self._world.chance.uniform(20, 400)

    async def _lose(self, call: str, work: Callable[[], Awaitable[object]]) -> None:
        kind = self._world.chance.random()
        if kind < 0.5:
            with suppress(StoreError):
                await work()
        elif kind < 0.7:
            self._world.later(work, self._world.chance.uniform(0.5, 200))
        raise StoreUnavailableError(call)
