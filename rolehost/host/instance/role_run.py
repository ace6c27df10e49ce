"""The role itself within a life: its process, and what it says over the channel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rolehost import clock
from rolehost.host.channel.leases import StatusLeases
from rolehost.host.channel.server import RuntimeChannel
from rolehost.host.channel.wire import BUSY, RECYCLE, STARTED, STOPPED, CurrentState
from rolehost.host.instance.changing import Offers
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.recycling import RecycleReason
from rolehost.host.instance.role_program import RoleProgram, role_program
from rolehost.host.instance.run_logs import RunLog, RunLogs
from rolehost.host.instance.silence import Silence
from rolehost.host.instance.status import InstanceState, InstanceStatus
from rolehost.host.stopping import StopOrder, StopRequests
from rolehost.host.waits import first
from rolehost.processes import Child, Exit
from rolehost.telemetry import emit

# Until the first message an interpreter is starting, maybe on a machine that is busy with twenty others.
_FIRST_WORD_SECONDS = 30.0
_CAPTURED_BYTES = 65536
# What a guest that listens has left, of the time for a stop, once TERM is sent.
_TERM_SECONDS = 10.0
# What a guest that listens has to refuse a change: a handler of its takes milliseconds, an update waits as long.
_REFUSAL_SECONDS = 2.0
# From the word that an instance stops until its role hears it: its requests go elsewhere by then.
_LEAVING_SECONDS = 0.05
_RUN_RETURNED = "its run returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an instance's lives share.

    Args:
        channel: to the role.
        status: kept up to date.
        requests: what asks the instance to stop.
        logs: where output is kept.
        probe: `host:port` of the probes.
    """

    channel: RuntimeChannel
    status: InstanceStatus
    requests: StopRequests
    logs: RunLogs
    probe: str


class RoleRun:
    """One run of a role. Made by `RoleRun.begin`.

    Args:
        program: what runs.
        plan: what it was started with.
        around: what the instance's lives share.
    """

    def __init__(self, program: RoleProgram, plan: InstancePlan, around: Surroundings) -> None:
        self.is_guest = program.is_guest
        self.was_ready = False
        self.recycle: asyncio.Event = asyncio.Event()
        self.recycle_reason = RecycleReason.REQUESTED
        self.silence = Silence(plan.model.heartbeat_seconds)
        self._program = program
        self._plan = plan
        self._around = around
        self._status = around.status
        self._offers = Offers()
        self._leases = StatusLeases(self._listen)
        self._stopping = False
        self._said_stopped = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._overdue: asyncio.TimerHandle | None = None

    @classmethod
    async def begin(cls, plan: InstancePlan, around: Surroundings) -> RoleRun:
        """Start the role.

        Args:
            plan: the instance; its directories are prepared.
            around: what its lives share.

        Raises:
            RoleHostError: it can't be started.
            OSError: the machine has no process left.
        """
        program = await role_program(plan, plan.role_variables(around.channel.endpoint, around.probe))
        run = cls(program, plan, around)
        await run._start(plan)
        return run

    async def _start(self, plan: InstancePlan) -> None:
        self._log: RunLog = self._around.logs.begin("role", plan.role.name)
        try:
            self.offer(plan)
            self.child = await Child.spawn(
                self._program.argv,
                env=self._program.env,
                cwd=self._program.cwd,
                marker=f"{plan.marker_prefix}role",
                identity=self._program.identity,
                capture=_CAPTURED_BYTES,
                on_output=self._log.add,
            )
        except BaseException:
            self._log.end(None)
            raise
        self.ended: asyncio.Task[Exit] = asyncio.create_task(self._wait())
        self._status.pid = self.child.pid
        emit("role.started", pid=self.child.pid)
        if self.is_guest:
            self._status.took(plan.generation)
            self._ready()
        else:
            self.silence.begin(_FIRST_WORD_SECONDS)

    async def _wait(self) -> Exit:
        end = await self.child.wait()
        self._log.end(end.code)
        return end

    def offer(self, plan: InstancePlan, *, simultaneous: bool = False) -> None:
        """Tell the role of a generation, the one that it starts with or another.

        Args:
            plan: the instance in this generation.
            simultaneous: a change of the topology in it is told to all instances at once.

        Raises:
            RoleHostError: what it holds can't be read.
            OSError: it can't be written.
        """
        if self._program.identity and self._program.identity.gid is not None:
            self._around.channel.share_with(self._program.identity.gid)
        incarnation = self._around.channel.expect_started(plan.snapshot(), simultaneous=simultaneous)
        self._plan = plan
        self._offers.add(incarnation, plan.generation)
        if not self.is_guest:
            return
        if self._overdue is not None:
            self._overdue.cancel()
        wait = self._patience(plan.model.changing_seconds)
        self._overdue = asyncio.get_running_loop().call_later(wait, self._status.took, plan.generation)

    def _patience(self, changing_seconds: float) -> float:
        """How long a guest has to take a change, or to refuse it."""
        if self._leases.ever_held:
            return changing_seconds
        # A program that doesn't listen takes what it is given. One that does may refuse, and needn't say that it takes.
        return min(_REFUSAL_SECONDS, changing_seconds) if self._around.channel.connected else 0.0

    def heard(self, state: CurrentState) -> None:
        """Take in what a client said."""
        if state.heartbeat:
            self.silence.broken()
        if state.status == RECYCLE and not self.recycle.is_set():
            if self._offers.is_refused(state.incarnation, self._leases.incarnation):
                self.recycle_reason = RecycleReason.CHANGE_CANCELLED
            elif _RUN_RETURNED in state.detail:
                self.recycle_reason = RecycleReason.RUN_RETURNED
            self.recycle.set()
            if self._overdue is not None:
                self._overdue.cancel()
        self._leases.note(state)

    def _listen(self) -> None:
        """The clients say something else together than before, or took another incarnation."""
        said = self._leases.status
        taken = self._offers.taken(self._leases.incarnation)
        if said == STOPPED:
            self._said_stopped.set()
        if self._stopping or self.recycle.is_set():
            return  # what it was told since, it leaves to the next life
        if taken is not None:
            self._status.took(taken)
        if said == BUSY:
            self._status.change(InstanceState.BUSY, self._leases.detail or "The role is busy.")
        elif said == STOPPED:
            self._status.change(InstanceState.STOPPING, "The role has stopped.")
        elif said == STARTED or self.was_ready:  # nobody holds a lease any more: it is what it was before
            self._ready()

    def _ready(self) -> None:
        if self._status.state is not InstanceState.READY:
            if not self.was_ready:
                self.was_ready = True
                emit("role.ready")
            self._status.change(InstanceState.READY, "The role is ready.")

    async def stop(self, order: StopOrder, requests: StopRequests) -> str:
        """Have the role stop, and kill it once the time is over or it gives no sign of life.

        Args:
            order: how long it has.
            requests: what may ask for another time meanwhile.

        Returns:
            Why it was killed; empty: it wasn't.
        """
        self._stopping = True
        self._status.change(InstanceState.STOPPING, "The role is stopping.")
        order = await self._left_rotation(order, requests)
        over = asyncio.create_task(first(self.ended, self.silence.over()))
        try:
            in_time = await requests.by_deadline(over, order, self._announce)
        finally:
            over.cancel()
            if self._asking is not None:
                self._asking.cancel()
        if in_time and over.result() == 0:
            return ""
        reason = "it gave no sign of life" if in_time else "the time for the stop was over"
        emit("role.killed", reason=reason)
        self.child.kill()
        return reason

    async def _left_rotation(self, order: StopOrder, requests: StopRequests) -> StopOrder:
        """Wait until nobody sends requests any more, unless there is haste; the answer is what counts by then."""
        before = requests.order
        if self.was_ready and not requests.hurry.is_set():
            await first(self.ended, requests.hurry.wait(), clock.sleep(_LEAVING_SECONDS))
        return order if requests.order in (before, None) else requests.order

    def _announce(self, order: StopOrder) -> None:
        emit("role.stopping", seconds=order.left, reason=order.reason)
        self._around.channel.expect_stopped(order.left)
        if self.is_guest:
            if self._asking is not None:
                self._asking.cancel()
            self._asking = asyncio.create_task(self._ask(order))

    async def _ask(self, order: StopOrder) -> None:
        """TERM for a guest: once it says that it has stopped; at once where it doesn't listen; in any case in time."""
        if self._around.channel.connected and not self._said_stopped.is_set():
            left = order.left
            patience = self._plan.model.on_stop_seconds if left is None else max(left - min(_TERM_SECONDS, left / 2), 0)
            await first(self._said_stopped.wait(), clock.sleep(patience))
        left = order.left
        self.child.terminate(self._plan.model.on_stop_seconds if left is None else left)

    def end(self) -> None:
        """Nothing that a client says counts any more; what is left of the process is killed."""
        self._leases.clear()
        if self._overdue is not None:
            self._overdue.cancel()
        self.child.kill()
