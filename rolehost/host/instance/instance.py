"""One role instance through all its lives: started, started again after a pause, stopped."""

from __future__ import annotations

import asyncio

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.channel.server import RuntimeChannel
from rolehost.host.channel.wire import CurrentState
from rolehost.host.instance.life import Life, LifeEnd
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.recycling import SETTLED_SECONDS, RecycleReason, pauses_of
from rolehost.host.instance.role_run import Surroundings
from rolehost.host.instance.run_logs import RunLogs
from rolehost.host.instance.status import InstanceState, InstanceStatus
from rolehost.host.reporting import Reporter
from rolehost.host.stopping import StopRequests
from rolehost.host.waits import first
from rolehost.processes import end_strays
from rolehost.telemetry import emit


class Instance:
    """A role instance.

    Args:
        plan: what it is, to begin with.
        status: what the probes answer; kept up to date here.
        requests: what asks it to stop.
        reporter: who hears of it.
        probe: `host:port` of the probes, told to the role.
    """

    def __init__(
        self, plan: InstancePlan, status: InstanceStatus, requests: StopRequests, reporter: Reporter, probe: str
    ) -> None:
        self._plan = plan
        self._status = status
        self._requests = requests
        self._reporter = reporter
        self._channel = RuntimeChannel(plan.directory_name, self._heard, plan.model.heartbeat_seconds)
        self._around = Surroundings(
            channel=self._channel,
            status=status,
            requests=requests,
            logs=RunLogs(plan.data.root, plan.instance_id, reporter),
            probe=probe,
        )
        self._pauses = pauses_of(*_backoff(plan))
        self._renewed = asyncio.Event()
        self._life: Life | None = None
        status.place(plan.placed())
        self._note_times(plan)

    async def run(self) -> None:
        """Keep the instance going until it is to stop."""
        async with self._channel:
            while not self._requests.stop.is_set():
                self._renewed.clear()
                self._life = Life(self._plan, self._around)
                end = await self._life.live()
                await end_strays(self._plan.marker_prefix)
                self._note_end(end)
                if self._life.ran_with(self._plan) and end.reason is not RecycleReason.CHANGE_CANCELLED:
                    self._renewed.clear()  # this life had it already
                if not self._requests.stop.is_set():
                    await self._pause(end)
        self._status.change(InstanceState.STOPPED, "The instance was stopped.")
        emit("instance.stopped")
        await self._around.logs.close()

    def assign(self, plan: InstancePlan, *, simultaneous: bool = False) -> None:
        """Take another generation: the running role is told of it, or is recycled where it has to start again.

        One that can't be told is refused, and the one before goes on.

        Args:
            plan: the instance in this generation.
            simultaneous: a change of the topology in it is told to all instances at once.
        """
        before = self._plan
        self._note_times(plan)
        try:
            if self._life is not None:
                self._life.assign(plan, simultaneous=simultaneous)
        except (RoleHostError, OSError) as error:
            self._note_times(before)
            emit("assignment.refused", generation=plan.generation, reason=str(error))
            self._status.refuse(f"Generation {plan.generation} is refused: {error}.")
            return
        self._plan = plan
        self._status.refuse("")
        if plan.role != before.role or _backoff(plan) != _backoff(before):
            self._pauses = pauses_of(*_backoff(plan))  # what failed before may be mended: try at once
            self._renewed.set()

    def _note_times(self, plan: InstancePlan) -> None:
        model = plan.model
        self._requests.drain_seconds = model.drain_seconds
        self._channel.set_times(
            heartbeat=model.heartbeat_seconds,
            changing_seconds=model.changing_seconds,
            status_check_seconds=model.status_check_seconds,
        )

    def _note_end(self, end: LifeEnd) -> None:
        settled = end.lasted >= SETTLED_SECONDS
        self._status.note_end(end.crash, was_ready=end.was_ready, settled=settled)
        if end.crash is not None:
            said = end.crash
            facts = {"exit_code": said.exit_code, "signal": said.signal, "stage": str(said.stage)}
            emit("role.crashed", detail=said.reason, was_ready=end.was_ready, **facts)
            self._status.change(InstanceState.RECYCLING, said.apology)
        elif not self._requests.stop.is_set():
            self._status.change(InstanceState.RECYCLING, f"The role was recycled: {end.reason}.")

    async def _pause(self, end: LifeEnd) -> None:
        seconds = self._pauses.after(was_ready=end.was_ready, lasted=end.lasted)
        self._status.recycles += 1
        self._reporter.status(self._status.facts())
        emit(
            "instance.recycled",
            reason=str(end.reason),
            detail=self._status.detail,
            pause_seconds=round(seconds, 3),
        )
        await first(clock.sleep(seconds), self._requests.stop.wait(), self._renewed.wait())

    def _heard(self, state: CurrentState) -> None:
        if self._life is not None:
            self._life.heard(state)


def _backoff(plan: InstancePlan) -> tuple[str, float]:
    return plan.model.recycle_backoff, plan.model.recycle_seconds
