"""One life of a role, seen from its own process: load, start, run, stop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rolehost import clock
from rolehost.entrypoint import RoleEntryPoint, ServedRole, load_entry_point
from rolehost.environment import RoleEnvironment
from rolehost.errors import EntryPointError, RoleHostError
from rolehost.host.channel.client import RuntimeClient
from rolehost.host.channel.wire import BUSY, RECYCLE, STARTED, STOPPED, GoalState
from rolehost.host.exit_codes import FAILED, HOST_GONE, NOT_LOADED, START_REFUSED
from rolehost.host.role.failures import report
from rolehost.host.role.goal_changes import GoalChanges
from rolehost.host.role.host_connection import HostConnection
from rolehost.host.role.status_checks import StatusChecks
from rolehost.telemetry import emit
from rolehost.user_code import UserCode


@runtime_checkable
class OpensFirst(Protocol):
    """A served role whose `serve` begins by opening what it works with, as its stores."""

    async def serving(self) -> None:
        """Return once `serve` has opened it all; the instance is busy until then.

        A life whose `serve` raises before never was ready, so that the pauses between lives grow.
        """


class RoleLife:
    """Drives a role as parity with the original asks: no `stopping` and no `on_stop` where something raised.

    Args:
        client: the channel to the host.
        environment: the process's; it has the first goal's snapshot.
        goal: the first.
    """

    def __init__(self, client: RuntimeClient, environment: RoleEnvironment, goal: GoalState) -> None:
        self._client = client
        self._environment = environment
        self._user = UserCode()
        self._changes = GoalChanges(client, environment, self._user, self.recycle)
        self._checks = StatusChecks(client, environment, self._user)
        self._role: RoleEntryPoint | None = None
        self._work: asyncio.Future[Any] | None = None
        self._told_to_stop = asyncio.Event()
        self._stopping = asyncio.Event()
        self._deadline: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._note(goal)

    @property
    def host(self) -> HostConnection:
        """What the role environment asks of the host."""
        return HostConnection(self._client, self._report_recycle, self._keep)

    def recycle(self, reason: str = "it was asked for") -> None:
        """Have the host stop and start this instance."""
        self._keep(self._report_recycle(reason))

    async def run(self, entry_point: str, search_path: Path | None) -> int:
        """Live; the answer is the process's exit code.

        Args:
            entry_point: `module:Class`.
            search_path: where the role's own modules are.
        """
        self._keep(self._client.heartbeat())
        self._keep(self._until_told(self._changes.follow()))
        self._keep(self._until_told(self._checks.repeat()))
        goals = self._keep(self._follow_goals())
        life = self._keep(self._live(entry_point, search_path))
        await asyncio.wait([goals, life], return_when=asyncio.FIRST_COMPLETED)
        if not life.done():
            return HOST_GONE
        error = life.exception()
        return self._explain(error) if error else life.result()

    async def _live(self, entry_point: str, search_path: Path | None) -> int:
        await self._client.report(BUSY, "The role is being loaded.")
        role_class = await self._user.call(load_entry_point, entry_point, search_path)
        role = self._role = await self._user.call(role_class)
        if isinstance(role, ServedRole):
            self._environment.changing += role.restart_for_settings
        await self._client.report(BUSY, "The role is starting.")
        started = await self._user.call(role.on_start)
        if started is not None and not started:  # a forgotten `return True` is no refusal
            emit("role.start_refused")
            return START_REFUSED
        if not self._told_to_stop.is_set():
            await self._run(role)
        await self._stop(role)
        return 0

    async def _run(self, role: RoleEntryPoint) -> None:
        told = self._keep(self._told_to_stop.wait())
        if isinstance(role, ServedRole) and isinstance(role, OpensFirst):
            self._work = self._begin(role)
            opened = self._keep(role.serving())
            await asyncio.wait([self._work, opened, told], return_when=asyncio.FIRST_COMPLETED)
            if not self._work.done() and opened.done():
                await self._client.report(STARTED)
        else:
            await self._client.report(STARTED)
            self._work = self._begin(role)
        await asyncio.wait([self._work, told], return_when=asyncio.FIRST_COMPLETED)
        if self._work.done():
            self._work.result()
            if not self._told_to_stop.is_set():
                self.recycle("its run returned")
                await told

    def _begin(self, role: RoleEntryPoint) -> asyncio.Future[Any]:
        return self._keep(role.serve(self._stopping)) if isinstance(role, ServedRole) else self._user.call(role.run)

    async def _stop(self, role: RoleEntryPoint) -> None:
        if isinstance(role, ServedRole):
            role.stop_deadline = self._deadline
        await self._user.call(self._environment.raise_stopping)
        self._stopping.set()
        if self._work is not None and isinstance(role, ServedRole):
            await self._work
        elif self._work is not None:
            # `run` goes on while `on_stop` is called; that it fails now, with its things being put away, is no crash.
            self._work.add_done_callback(_print_failure)
        await self._user.call(role.on_stop)
        await self._client.report(STOPPED)

    async def _report_recycle(self, reason: str) -> bool:
        emit("role.recycle_requested", reason=reason)
        return await self._client.report(RECYCLE, f"The role recycles: {reason}.")

    async def _until_told(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do this until the role is told to stop."""
        told, working = asyncio.ensure_future(self._told_to_stop.wait()), asyncio.ensure_future(work)
        await asyncio.wait([told, working], return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if working.done() and (error := working.exception()) is not None:
            self.recycle(f"it can't follow the host any more ({error!r})")
        working.cancel()

    async def _follow_goals(self) -> None:
        while goal := await self._client.next_goal():
            self._note(goal)

    def _note(self, goal: GoalState) -> None:
        if goal.expected != STOPPED:
            self._changes.note(goal)
            return
        self._client.take(goal)
        self._deadline = None if goal.seconds is None else clock.monotonic() + goal.seconds
        if isinstance(self._role, ServedRole):
            self._role.stop_deadline = self._deadline
        self._told_to_stop.set()

    def _explain(self, error: BaseException) -> int:
        """Say why the role ended; the answer is the exit code."""
        shipped = isinstance(self._role, ServedRole) and isinstance(error, RoleHostError)
        if shipped and not os.environ.get("ROLEHOST_DEBUG"):
            # It foresaw this, and says it in a sentence: a traceback of ours helps nobody.
            emit("role.crashed", reason=" ".join(str(error).split()))
            return FAILED
        if not isinstance(error, EntryPointError):
            report(error, shipped=isinstance(self._role, ServedRole))
            return FAILED
        if error.__cause__ is not None:
            report(error.__cause__)
        sys.stderr.write(f"rolehost: {variable('RoleInstanceID')}: the role can't be loaded: {error}\n")
        return NOT_LOADED

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop alone would let it be collected
        return task


def variable(name: str) -> str:
    """One of the variables that the host sets; the original wrote their names in mixed case."""
    return os.environ.get(name, "")


def _print_failure(work: asyncio.Future[Any]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        report(error)
