"""One life of a role instance, from its first startup task to the end of its last process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from rolehost import clock
from rolehost.errors import RoleHostError, StartupError, StartupTaskError
from rolehost.host.channel.wire import CurrentState
from rolehost.host.instance import approot, certificates
from rolehost.host.instance.changing import why_restart
from rolehost.host.instance.last_lines import last_lines, last_said, shortened
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.quotas import QuotaWatch
from rolehost.host.instance.recycling import RecycleReason
from rolehost.host.instance.role_end import explained
from rolehost.host.instance.role_run import RoleRun, Surroundings
from rolehost.host.instance.start_limit import start_overdue
from rolehost.host.instance.startup_tasks import StartupTasks
from rolehost.host.instance.status import Crash, InstanceState, Stage
from rolehost.host.stopping import StopOrder
from rolehost.host.waits import first
from rolehost.processes import Exit
from rolehost.telemetry import emit


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeEnd:
    """How a life ended.

    Args:
        reason: why.
        crash: what went wrong; None after an orderly end.
        was_ready: whether the role had been ready.
        lasted: seconds.
    """

    reason: RecycleReason
    crash: Crash | None
    was_ready: bool
    lasted: float


class Life:
    """One life.

    Args:
        plan: the instance, as it is when the life begins.
        around: what it shares with the instance's other lives.
    """

    def __init__(self, plan: InstancePlan, around: Surroundings) -> None:
        self._plan = plan
        self._around = around
        self._status = around.status
        self._began = clock.monotonic()
        self._tasks = StartupTasks(plan, lambda command: around.logs.begin("task", command))
        self._installed: frozenset[str] = frozenset()
        self._run: RoleRun | None = None
        self._restart = asyncio.Event()
        self._restart_reason = RecycleReason.UPDATED
        self._order: StopOrder | None = None
        self._crash: Crash | None = None
        self._overdue = asyncio.create_task(start_overdue(plan.model.start_seconds, self._is_ready))

    async def live(self) -> LifeEnd:
        """Live: prepare, the startup tasks, the role until something ends it, the foreground tasks; nothing is left."""
        self._status.begin_life()
        try:
            await self._prepare()
            reason = await self._run_tasks() or await self._run_role()
            await self._finish_tasks()
        except (RoleHostError, OSError) as error:
            reason = RecycleReason.NOT_STARTED
            self._crash = Crash(reason=f"It can't be started: {error}", stage=Stage.START)
        finally:
            self._overdue.cancel()
            if self._run is not None:
                self._run.end()
            await self._tasks.end()
        lasted, was_ready = clock.monotonic() - self._began, self._run is not None and self._run.was_ready
        return LifeEnd(reason=reason, crash=self._crash, was_ready=was_ready, lasted=lasted)

    async def _prepare(self) -> None:
        plan = self._plan
        self._status.place(plan.placed())
        self._status.change(InstanceState.STARTING, "The instance's directories are being prepared.")
        self._installed = await asyncio.to_thread(_prepared, plan)

    async def _run_tasks(self) -> RecycleReason | None:
        """Run the startup tasks; the answer is why the role doesn't start after them, if it doesn't."""
        if self._plan.role.startup_tasks:
            detail = "Waiting for role to start... System startup tasks are running."
            self._status.change(InstanceState.STARTING, detail)
        tasks = asyncio.create_task(self._tasks.run())
        reason = await self._first_cause(tasks)
        if reason is None:
            try:
                await tasks
            except StartupTaskError as error:
                self._crash = _task_crash(error)
                return RecycleReason.TASK_FAILED
            return None
        tasks.cancel()
        await asyncio.wait([tasks])
        if reason is RecycleReason.START_TIMED_OUT:
            self._crash = Crash(reason=f"Its startup tasks took {self._late()}.", stage=Stage.TASK)
        return reason

    async def _run_role(self) -> RecycleReason:
        """Run the role until it ends; the answer is why it did."""
        self._status.change(InstanceState.STARTING, "Starting role...")
        plan = self._plan
        run = self._run = await RoleRun.begin(plan, self._around)
        if self._plan is not plan:  # it came while the program was being looked for
            run.offer(self._plan)
        reason = await self._first_cause(run.ended, run)
        stage = Stage.RUN if run.was_ready else Stage.START
        killed = ""
        if reason is None:
            reason = RecycleReason.CRASHED
        elif reason.is_orderly:
            stage = Stage.STOP
            killed = await run.stop(self._begin_stop(reason), self._around.requests)
        else:
            killed = self._kill(run, reason)
        self._note_end(run, await run.ended, stage, killed)
        return reason

    async def _finish_tasks(self) -> None:
        """Wait for foreground tasks: a recycle or a stop does, for as long as it has."""
        tasks = asyncio.create_task(self._tasks.finish())
        await asyncio.sleep(0)
        if tasks.done():
            return
        self._status.change(self._status.state, "Waiting for foreground startup tasks to end.")
        requests = self._around.requests
        recycle = StopOrder(self._plan.model.on_stop_seconds, clock.monotonic(), "recycle")
        if not await requests.by_deadline(tasks, requests.order or self._order or recycle, lambda _: None):
            emit("task.killed", reason="the time for the stop was over")
        tasks.cancel()

    async def _first_cause(self, work: asyncio.Task[Any], run: RoleRun | None = None) -> RecycleReason | None:
        """What happens first; None: the work has ended by itself."""
        waits: dict[str, asyncio.Task[Any] | Coroutine[Any, Any, Any]] = {
            "work": work,
            "stop": self._around.requests.stop.wait(),
            "restart": self._restart.wait(),
            "overdue": self._overdue,
        }
        if run is not None:
            waits |= {"recycle": run.recycle.wait(), "silence": run.silence.over(), "quota": self._quota()}
        happened = list(waits)[await first(*waits.values())]
        return {
            "work": None,
            "stop": RecycleReason.STOPPED,
            "restart": self._restart_reason,
            "overdue": RecycleReason.START_TIMED_OUT,
            "recycle": run.recycle_reason if run else None,
            "silence": RecycleReason.HUNG,
            "quota": RecycleReason.OVER_QUOTA,
        }[happened]

    async def _quota(self) -> None:
        """Return once a local resource is over its size."""
        overflow = await QuotaWatch(self._plan).over()
        self._crash = Crash(reason=f"{str(overflow)[:1].upper()}{str(overflow)[1:]}.", stage=Stage.RUN)

    def _is_ready(self) -> bool:
        return self._run is not None and self._run.was_ready

    def _late(self) -> str:
        return f"longer than {self._plan.model.start_seconds:g} s"

    def _begin_stop(self, reason: RecycleReason) -> StopOrder:
        asked = self._around.requests.order
        recycle = StopOrder(self._plan.model.on_stop_seconds, clock.monotonic(), str(reason))
        self._order = asked if reason is RecycleReason.STOPPED and asked is not None else recycle
        return self._order

    def _kill(self, run: RoleRun, reason: RecycleReason) -> str:
        """End a role that can't be asked; the answer says why."""
        if reason is RecycleReason.HUNG:
            self._status.hung = True
            emit("role.hung", seconds=self._plan.model.heartbeat_seconds)
            told = f"it gave no sign of life for {self._plan.model.heartbeat_seconds:g} s"
        else:
            told = f"its start took {self._late()}"
        emit("role.killed", reason=told)
        self._status.change(InstanceState.RECYCLING, f"The role is being killed: {told}.")
        run.child.kill()
        return told

    def _note_end(self, run: RoleRun, end: Exit, stage: Stage, killed: str) -> None:
        if stage is Stage.STOP and not killed and (end.code == 0 or run.is_guest):
            emit("role.stopped", exit_code=end.code, signal=end.signal)
            return
        if end.exec_error:
            run.was_ready = False  # it never was
        stderr = run.child.stderr
        starting = stage is Stage.START
        said = explained(end, last_said(stderr), is_guest=run.is_guest, starting=starting)
        how = f"The role was killed: {killed}." if killed else said
        if self._crash is None:
            self._crash = Crash(
                reason=how, stage=stage, exit_code=end.code, signal=end.signal, stderr=last_lines(stderr)
            )
        self._status.change(InstanceState.RECYCLING, self._crash.apology)

    def assign(self, plan: InstancePlan, *, simultaneous: bool) -> None:
        """Take another generation: told to the running role, or a reason to start again.

        Args:
            plan: the instance in this generation.
            simultaneous: a change of the topology in it is told to all instances at once.

        Raises:
            RoleHostError: the role can't be told of it; it goes on as before.
            OSError: likewise.
        """
        reason = why_restart(self._plan, plan, self._installed)
        if reason is not None:
            self._restart_reason = reason
            self._restart.set()
            return
        if self._restart.is_set() or self._order is not None:
            return  # the next life takes it
        if self._run is not None and not self._run.ended.done():
            self._run.offer(plan, simultaneous=simultaneous)
        self._plan = plan
        self._status.place(plan.placed())

    def ran_with(self, plan: InstancePlan) -> bool:
        """Whether the role was started with this plan, or told of it."""
        return self._run is not None and self._plan is plan

    def heard(self, state: CurrentState) -> None:
        """Take in what a client of the channel said."""
        if self._run is not None and not self._run.ended.done():
            self._run.heard(state)


def _prepared(plan: InstancePlan) -> frozenset[str]:
    """Make the instance's directories; the answer is the thumbprints of the certificates that are installed."""
    plan.data.prepare(plan.instance_id, plan.storages.values())
    approot.build(plan)
    certificates.require(plan)
    return _installed(plan)


def _installed(plan: InstancePlan) -> frozenset[str]:
    """The thumbprints that are there; where a file is broken, none is taken for granted."""
    try:
        return frozenset(certificates.installed(certificates.place_of(plan)))
    except StartupError:
        return frozenset()


def _task_crash(error: StartupTaskError) -> Crash:
    return Crash(
        reason=f"{str(error)[:1].upper()}{str(error)[1:]}.",
        stage=Stage.TASK,
        exit_code=error.exit_code,
        signal=error.signal,
        stderr=shortened(error.stderr),
    )
