"""Goals that change the role environment of a running role, one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rolehost import clock
from rolehost.environment import EnvironmentChange, RoleEnvironment, parse_snapshot
from rolehost.errors import RoleEnvironmentError
from rolehost.host.channel.client import RuntimeClient
from rolehost.host.channel.wire import GoalState
from rolehost.telemetry import emit
from rolehost.user_code import UserCode


class GoalChanges:
    """Applies what the host wants, as Microsoft's published clients do; the handlers are user code.

    Args:
        client: says which incarnation the role has.
        environment: what is changed.
        user: calls the handlers.
        recycle: have the instance stopped and started with the new values; its argument is the reason.
    """

    def __init__(
        self, client: RuntimeClient, environment: RoleEnvironment, user: UserCode, recycle: Callable[[str], None]
    ) -> None:
        self._client = client
        self._environment = environment
        self._user = user
        self._recycle = recycle
        self._goals: asyncio.Queue[GoalState] = asyncio.Queue()

    def note(self, goal: GoalState) -> None:
        """Apply this goal once those before it are."""
        self._goals.put_nowait(goal)

    async def follow(self) -> None:
        """Apply what comes, until a change is cancelled: the instance is stopped then. Cancel it at the stop."""
        going_on = True
        while going_on:
            goal = await self._goals.get()
            if goal.incarnation > self._client.incarnation and (change := await self._change(goal)) is not None:
                going_on = await self._apply(goal, change)

    async def _change(self, goal: GoalState) -> EnvironmentChange | None:
        try:
            document = await asyncio.to_thread(Path(goal.environment_path).read_bytes)
            return self._environment.compare(parse_snapshot(document), simultaneous=goal.simultaneous)
        except (OSError, RoleEnvironmentError) as error:  # no such file: a newer goal has followed
            emit("environment.change_unreadable", incarnation=goal.incarnation, reason=str(error))
            return None

    async def _apply(self, goal: GoalState, change: EnvironmentChange) -> bool:
        if change:
            asked = self._user.call(self._environment.raise_changing, change)
            answered = await _within(asked, goal.changing_seconds)
            if not answered or not asked.result():
                emit("environment.change_cancelled", incarnation=goal.incarnation, answered=answered)
                self._client.take(goal)
                self._recycle("a change was cancelled" if answered else "the handlers of a change took too long")
                return False
        self._client.take(goal)
        await self._client.repeat()
        self._environment.attach(change.snapshot)
        if change:
            emit("environment.changed", incarnation=goal.incarnation, changes=_told(change))
            # A handler that hangs keeps no later change away.
            await _within(self._user.call(self._environment.raise_changed, change), goal.changing_seconds)
        return True


async def _within(work: asyncio.Future[Any], seconds: float) -> bool:
    """Whether it is done in time; it goes on if it isn't."""
    limit = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait([work, limit], return_when=asyncio.FIRST_COMPLETED)
    finally:
        limit.cancel()
    return work.done()


def _told(change: EnvironmentChange) -> list[str]:
    return [repr(each) for each in (*change.changes, *change.simultaneous)]
