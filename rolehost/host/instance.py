"""One role instance: prepared, started, watched, stopped in time, started again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from enum import Enum, auto
from typing import Any, Self

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.channel import RuntimeChannel
from rolehost.host.plan import InstancePlan
from rolehost.host.recycling import RecyclePauses
from rolehost.host.status import InstanceState, InstanceStatus
from rolehost.host.stopping import HURRY_SECONDS, StopRequests
from rolehost.host.wire import BUSY, RECYCLE, STARTED, STOPPED, CurrentState
from rolehost.processes import Child, Exit, end_strays
from rolehost.telemetry import emit

# Until the first message an interpreter is starting, maybe on a machine that is busy with twenty others.
_FIRST_WORD_SECONDS = 30.0


class _Cause(Enum):
    ENDED = auto()
    STOP = auto()
    RECYCLE = auto()
    HUNG = auto()
    HURRY = auto()


class Instance:
    """The state machine of a role instance.

    Args:
        plan: what it is.
        status: what the probes answer; kept up to date here.
        probe: `host:port` of the probes, told to the role.
    """

    def __init__(self, plan: InstancePlan, status: InstanceStatus, probe: str) -> None:
        self._plan = plan
        self._status = status
        self._probe = probe
        self._channel = RuntimeChannel(plan.directory_name, self._heard, plan.model.heartbeat_seconds)
        self._pauses = RecyclePauses(plan.model.recycle_seconds)
        self._requests = StopRequests()
        self._stop = self._requests.stop
        self._recycle = asyncio.Event()
        self._was_ready = False
        self._silence = Silence(plan.model.heartbeat_seconds)

    def request_stop(self) -> None:
        """Stop in order; asked again later, in haste."""
        self._requests.note()

    async def run(self) -> None:
        """Keep the instance going until it is to stop."""
        async with self._channel:
            while not self._stop.is_set():
                began = clock.monotonic()
                await self._live()
                await end_strays(self._plan.marker_prefix)
                if not self._stop.is_set():
                    await self._pause(clock.monotonic() - began)
        self._status.change(InstanceState.STOPPED, "The instance was stopped.")

    async def _live(self) -> None:
        self._recycle.clear()
        self._was_ready = False
        try:
            child = await self._start()
        except (RoleHostError, OSError) as error:
            emit("role.crashed", reason=str(error), was_ready=False)
            self._status.change(InstanceState.RECYCLING, f"The role process can't be started: {error}")
            return
        try:
            ended = asyncio.create_task(child.wait())
            cause = await self._watch(ended)
            if cause in {_Cause.STOP, _Cause.RECYCLE}:
                await self._stop_role(child, ended, cause)
            elif cause is _Cause.HUNG:
                emit("role.hung", seconds=self._plan.model.heartbeat_seconds)
                self._status.change(InstanceState.RECYCLING, "The role gave no sign of life and is being ended.")
                child.kill()
            self._note_end(await ended, cause)
        finally:
            child.kill()

    async def _start(self) -> Child:
        plan = self._plan
        self._status.change(InstanceState.STARTING, "The role process is starting.")
        await asyncio.to_thread(plan.data.prepare, plan.instance_id, tuple(plan.role.local_resources.values()))
        self._channel.expect_started(plan.snapshot())
        self._silence.begin(_FIRST_WORD_SECONDS)
        argv = [sys.executable, "-P", "-m", "rolehost.host.role_process", plan.role.entry_point]
        argv += ["--path", str(plan.model.directory), "--parent", str(os.getpid())]
        child = await Child.spawn(
            argv,
            env=plan.role_variables(self._channel.endpoint, self._probe),
            cwd=plan.model.directory,
            marker=f"{plan.marker_prefix}role",
            capture=None,
            pass_fds=[listening.fileno() for listening in plan.sockets.values()],
        )
        emit("role.started", pid=child.pid)
        return child

    async def _watch(self, ended: asyncio.Task[Exit]) -> _Cause:
        first = await _first(ended, self._stop.wait(), self._recycle.wait(), self._silence.over())
        return (_Cause.ENDED, _Cause.STOP, _Cause.RECYCLE, _Cause.HUNG)[first]

    async def _stop_role(self, child: Child, ended: asyncio.Task[Exit], cause: _Cause) -> None:
        model = self._plan.model
        seconds = {_Cause.STOP: model.drain_seconds, _Cause.HURRY: HURRY_SECONDS}.get(cause, model.on_stop_seconds)
        self._status.change(InstanceState.STOPPING, "The role is stopping.")
        self._channel.expect_stopped(seconds)
        emit("role.stopping", seconds=seconds, reason=cause.name.lower())
        nearer = self._requests.hurry if cause is _Cause.STOP else self._stop
        waits: list[asyncio.Task[Any] | Coroutine[Any, Any, Any]] = [ended, clock.sleep(seconds)]
        waits += [self._silence.over()] if cause is _Cause.RECYCLE else []
        waits += [nearer.wait()] if cause is not _Cause.HURRY else []
        first = await _first(*waits)
        if first == 0:
            return
        if first == len(waits) - 1 and cause is not _Cause.HURRY:  # a stop overtakes a recycle, haste overtakes a stop
            await self._stop_role(child, ended, _Cause.STOP if cause is _Cause.RECYCLE else _Cause.HURRY)
            return
        emit("role.killed", reason="the stop deadline passed" if first == 1 else "no sign of life")
        child.kill()

    def _note_end(self, end: Exit, cause: _Cause) -> None:
        ending = f"exit code {end.code}" if end.signal is None else f"signal {end.signal}"
        if cause is _Cause.ENDED:
            emit("role.crashed", exit_code=end.code, signal=end.signal, was_ready=self._was_ready)
            detail = f"The role has encountered an error and has stopped ({ending})."
        elif cause is _Cause.HUNG:
            detail = "The role gave no sign of life and was ended."
        else:
            emit("role.stopped", exit_code=end.code, signal=end.signal)
            detail = "The role was recycled."
        self._status.change(InstanceState.RECYCLING, detail)

    async def _pause(self, lasted: float) -> None:
        seconds = self._pauses.after(was_ready=self._was_ready, lasted=lasted)
        self._status.recycles += 1
        emit("instance.recycled", reason=self._status.detail, pause_seconds=round(seconds, 3))
        await _first(clock.sleep(seconds), self._stop.wait())

    def _heard(self, state: CurrentState) -> None:
        if state.heartbeat:
            self._silence.broken()
        if state.status == RECYCLE:
            self._recycle.set()
        if self._status.state in {InstanceState.STOPPING, InstanceState.RECYCLING}:
            return
        if state.status == BUSY:
            self._status.change(InstanceState.BUSY, state.detail or "The role is busy.")
        elif state.status == STARTED and self._status.state is not InstanceState.READY:
            self._was_ready = True
            self._status.change(InstanceState.READY, "The role is ready.")
            emit("role.ready")
        elif state.status == STOPPED:
            self._status.change(InstanceState.STOPPING, "The role has stopped.")


class Silence:
    """Tells when a role process has been silent for too long.

    Args:
        longest: seconds between two signs of life.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._left = longest

    def begin(self, first: float) -> None:
        """Wait for the first sign of a new life, for so many seconds at least."""
        self._left = max(first, self._longest)

    def broken(self) -> None:
        """It gave a sign of life."""
        self._left = self._longest

    async def over(self) -> None:
        """Return once it has been silent for too long."""
        step = self._longest / 10
        while self._left > 0:
            before = clock.monotonic()
            await clock.sleep(step)
            # We may have been held up ourselves, with signs of life waiting unread: count two steps at most.
            self._left -= min(clock.monotonic() - before, 2 * step)


class _Waiting(list[asyncio.Future[Any]]):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for waiting in self:
            waiting.cancel()


async def _first(*waits: asyncio.Task[Any] | Coroutine[Any, Any, Any]) -> int:
    """The index of the first to be done, the earliest if several are; tasks are left running, coroutines are not."""
    with _Waiting() as ours:
        tasks: list[asyncio.Task[Any]] = []
        for wait in waits:
            task = wait if isinstance(wait, asyncio.Task) else asyncio.create_task(wait)
            if task is not wait:
                ours.append(task)
            tasks.append(task)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(index for index, task in enumerate(tasks) if task.done())
