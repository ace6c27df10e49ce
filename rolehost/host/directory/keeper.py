"""Takes one number, and keeps it: renewed as a heartbeat and at each change, until it is given back or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from rolehost import clock
from rolehost.errors import InstanceLostError, RoleHostError
from rolehost.host.directory.client import DirectoryTimes
from rolehost.host.directory.rows import Holding, InstanceRows
from rolehost.telemetry import emit

_FIRST_PAUSE = 0.5
_NO_CHANGE = frozenset({"heartbeat_at"})


class Keeper:
    """One number.

    Args:
        rows: the table.
        times: how often.
        wish: `id`, `role`, `wanted`, `count`, `token`, and `held`: it was ours before.
        client_lives: whether the client was heard lately.
        tell: sends the client a message.
    """

    def __init__(
        self,
        rows: InstanceRows,
        times: DirectoryTimes,
        wish: Mapping[str, Any],
        client_lives: Callable[[], bool],
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.metadata = ""
        self.task: asyncio.Task[None] | None = None
        self._rows = rows
        self._times = times
        self._wish = wish
        self._client_lives = client_lives
        self._tell = tell
        self._holding: Holding | None = None
        self._facts: Mapping[str, Any] = {}
        self._changed = asyncio.Event()

    @property
    def instance(self) -> str:
        """Its id; empty while no number is known."""
        if self._holding is not None:
            return self._holding.instance
        wanted = self._wish["wanted"]
        return "" if wanted is None else f"{self._wish['role']}_IN_{wanted}"

    @property
    def token(self) -> str:
        """What proves that it is ours."""
        return str(self._wish["token"])

    def hear(self, facts: Mapping[str, Any]) -> None:
        """Facts of an instance: of ours, or of another."""
        if facts.get("instance") != self.instance:
            return
        before, self._facts = self._facts, facts
        if _telling(before) != _telling(facts):
            self._changed.set()

    async def keep(self) -> None:
        """Take the number, and renew it; ends when it is lost."""
        try:
            self._holding = await self._taken()
            self._tell({"held": {"id": self._wish["id"], "number": self._holding.number}})
            emit("directory.number_taken", instance=self.instance)
            while True:
                await self._renew()
                await self._pause()
        except InstanceLostError as error:
            emit("directory.number_lost", instance=self.instance, reason=str(error))
            self._tell({"lost": {"id": self._wish["id"], "instance": self.instance}})
            self._holding = None

    async def release(self) -> None:
        """Give the number back; a store that says nothing leaves it to the lease."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
        if self._holding is not None:
            holding, self._holding = self._holding, None
            for _ in range(3):
                with suppress(RoleHostError):
                    await self._rows.release(holding, self._facts)
                    emit("directory.number_released", instance=holding.instance)
                    return

    async def _taken(self) -> Holding:
        wish = self._wish
        if wish["held"]:
            return await self._answered(lambda: self._rows.resume(wish["role"], wish["wanted"], self.token))
        return await self._answered(
            lambda: self._rows.take(wish["role"], wanted=wish["wanted"], count=wish["count"], token=self.token)
        )

    async def _renew(self) -> None:
        holding = self._holding
        if holding is None or not self._client_lives():
            return
        self._changed.clear()
        self._holding = await self._answered(lambda: self._rows.renew(holding, self._facts, self.metadata))

    async def _answered(self, work: Callable[[], Awaitable[Holding]]) -> Holding:
        """What the stores answer, asked again for as long as they say nothing.

        Raises:
            InstanceLostError: the number is another's.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return await work()
            except InstanceLostError:
                raise
            except RoleHostError as error:
                self._told_of(error, pause)
            await clock.sleep(pause)
            pause = min(pause * 2, self._times.heartbeat)

    def _told_of(self, error: Exception, pause: float) -> None:
        if pause == _FIRST_PAUSE:  # once for each time that they are away
            emit("directory.store_unavailable", instance=self.instance, reason=str(error))

    async def _pause(self) -> None:
        """Until the next heartbeat, or the next change: of these not more than one in each throttled moment."""
        await clock.sleep(self._times.throttle)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._times.heartbeat - self._times.throttle, 0)):
                await self._changed.wait()


def _telling(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in _NO_CHANGE}
