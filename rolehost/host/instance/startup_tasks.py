"""Startup tasks: what runs before a role starts, in the definition's order, and each time that the role starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rolehost import clock
from rolehost.errors import RoleHostError, StartupTaskError
from rolehost.host.instance.approot import APPROOT, role_root
from rolehost.host.instance.commands import argv_of
from rolehost.host.instance.rights import identity_of
from rolehost.processes import Child, Exit, Output
from rolehost.service_model import StartupTask, TaskType
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.host.instance.plan import InstancePlan

TASK_STARTED = 10001
TASK_ENDED = 10002
_STDERR_BYTES = 4096
_CAPTURED_BYTES = 64 * 1024
_GRACE_SECONDS = 2.0


class RunLog(Protocol):
    """Where the output of a run goes."""

    path: Path

    def add(self, stream: str, data: bytes) -> None:
        """Take a piece of `stdout` or `stderr`; neither waits nor raises."""

    def end(self, exit_code: int | None) -> None:
        """The run has ended."""


class _NoLog:
    path = Path("-")

    def add(self, stream: str, data: bytes) -> None:
        """Nobody wants it."""

    def end(self, exit_code: int | None) -> None:
        """Nothing is open."""


def _no_log(_: str) -> RunLog:
    return _NoLog()


@dataclass(slots=True, kw_only=True)
class _Running:
    """A task that was started."""

    task: StartupTask
    number: int
    log: RunLog
    child: Child
    ended: asyncio.Task[Exit]


class StartupTasks:
    """The startup tasks of one life of an instance.

    A simple task holds up what comes after it, and has to exit with 0. A background task is started and left alone. A
    foreground task is, too, but a recycle or a stop waits for it. What a task leaves running ends with the task.

    Args:
        plan: the instance; its directories are prepared.
        on_output: opens the log of a run; it is given the task's command line.
    """

    def __init__(self, plan: InstancePlan, on_output: Callable[[str], RunLog] = _no_log) -> None:
        self._plan = plan
        self._on_output = on_output
        self._running: list[_Running] = []

    async def run(self) -> None:
        """Start the tasks in the definition's order; returns once the last simple one has ended.

        Raises:
            StartupTaskError: a simple task failed, or a task can't be started: the later ones are not, either.
        """
        for number, task in enumerate(self._plan.role.startup_tasks, 1):
            running = await self._start(number, task)
            if task.task_type is TaskType.SIMPLE:
                await self._simple(running)

    async def finish(self) -> None:
        """Wait until every foreground task has ended by itself, however long that takes."""
        foreground = [each.ended for each in self._running if each.task.task_type is TaskType.FOREGROUND]
        if foreground:
            await asyncio.wait(foreground)

    async def end(self, grace: float = _GRACE_SECONDS) -> None:
        """End the tasks that still run, with all that they started.

        Args:
            grace: seconds from TERM to KILL.
        """
        await asyncio.gather(*(each.child.stop(grace) for each in self._running if not each.ended.done()))
        await asyncio.gather(*(each.ended for each in self._running), return_exceptions=True)

    async def _start(self, number: int, task: StartupTask) -> _Running:
        log = self._on_output(task.command_line)
        try:
            child = await self._spawn(number, task, log)
        except (RoleHostError, OSError) as error:
            sentence = f"the startup task {task.command_line!r} can't be started: {error}"
            log.add("stderr", f"{sentence}\n".encode())
            log.end(None)
            self._tell("task.ended", TASK_ENDED, task, log, exit_code=None, reason=sentence)
            raise StartupTaskError(sentence, task=task.command_line) from error
        self._tell("task.started", TASK_STARTED, task, log, pid=child.pid)
        ended = asyncio.create_task(self._watch(task, child, log))
        running = _Running(task=task, number=number, log=log, child=child, ended=ended)
        self._running.append(running)
        return running

    async def _spawn(self, number: int, task: StartupTask, log: RunLog) -> Child:
        plan = self._plan
        env = plan.task_variables(task)
        approot = role_root(plan) / APPROOT
        argv = argv_of(task.command_line, approot, env)
        identity = await identity_of(plan, task.execution_context, "it")
        if identity and identity.uid is not None:
            env["HOME"] = str(plan.data.temp(plan.instance_id))  # root's is closed to it
        return await Child.spawn(
            argv,
            env=env,
            cwd=approot,
            marker=f"{plan.marker_prefix}task-{number}",
            identity=identity,
            capture=_CAPTURED_BYTES,
            on_output=log.add,
        )

    async def _watch(self, task: StartupTask, child: Child, log: RunLog) -> Exit:
        began = clock.monotonic()
        end = await child.wait()
        log.end(end.code)
        facts = {"exit_code": end.code, "signal": end.signal, "reason": end.exec_error}
        self._tell("task.ended", TASK_ENDED, task, log, **facts, seconds=round(clock.monotonic() - began, 3))
        return end

    async def _simple(self, running: _Running) -> None:
        try:
            end = await asyncio.shield(running.ended)
        except BaseException:
            await asyncio.shield(running.child.stop(_GRACE_SECONDS))
            raise
        if end.code != 0:
            raise _failure(running.task.command_line, end, running.child.stderr)

    def _tell(self, event: str, event_id: int, task: StartupTask, log: RunLog, **facts: object) -> None:
        known = {name: value for name, value in facts.items() if value is not None}
        emit(
            event,
            event_id=event_id,
            instance=self._plan.instance_id,
            task=task.command_line,
            type=task.task_type.value,
            run=log.path.stem,
            **known,
        )


def _failure(task: str, end: Exit, stderr: Output) -> StartupTaskError:
    tail = stderr.tail(_STDERR_BYTES).decode(errors="replace")
    if end.exec_error:
        sentence = f"the startup task {task!r} can't be started: {end.exec_error}"
    else:
        how = f"was ended by signal {end.signal}" if end.signal else f"ended with exit code {end.code}"
        last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
        sentence = f"the startup task {task!r} {how}" + (f": {last}" if last else "")
    return StartupTaskError(sentence, task=task, exit_code=end.code, signal=end.signal, stderr=tail)
