"""What a bootstrapper says about its instance: to its probes, to the fabric, to the directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from rolehost import clock
from rolehost.environment import RoleInstance, RoleInstanceEndpoint

# From the second failure of one sort on, an instance is in a loop.
_LOOP = 2


class InstanceState(StrEnum):
    """Where an instance is in its life; it takes requests in Ready only."""

    STARTING = "Starting"
    BUSY = "Busy"
    READY = "Ready"
    STOPPING = "Stopping"
    RECYCLING = "Recycling"
    STOPPED = "Stopped"


class PlatformStatus(StrEnum):
    """The platform's words for an instance (the original's InstanceStatus, but for what only virtual machines have)."""

    STARTING_ROLE = "StartingRole"
    BUSY_ROLE = "BusyRole"
    READY_ROLE = "ReadyRole"
    STOPPING_ROLE = "StoppingRole"
    RESTARTING_ROLE = "RestartingRole"
    CYCLING_ROLE = "CyclingRole"
    FAILED_STARTING_ROLE = "FailedStartingRole"
    UNRESPONSIVE_ROLE = "UnresponsiveRole"
    STOPPED_VM = "StoppedVM"
    ROLE_STATE_UNKNOWN = "RoleStateUnknown"


_PLAIN = {
    InstanceState.BUSY: PlatformStatus.BUSY_ROLE,
    InstanceState.READY: PlatformStatus.READY_ROLE,
    InstanceState.STOPPING: PlatformStatus.STOPPING_ROLE,
    InstanceState.STOPPED: PlatformStatus.STOPPED_VM,
}


class Stage(StrEnum):
    """How far a life had come."""

    TASK = "startup task"
    START = "start"
    RUN = "run"
    STOP = "stop"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """How a life ended that should not have.

    Args:
        at: when, as `clock.iso` writes it.
        reason: a sentence for people.
        exit_code: of the role process, of the startup task, or of the host.
        signal: what ended it, where a signal did.
        stderr: its last lines.
    """

    reason: str
    stage: Stage
    exit_code: int | None = None
    signal: int | None = None
    stderr: str = ""
    at: str = field(default_factory=lambda: clock.iso(clock.now()))

    @property
    def apology(self) -> str:
        """The status detail, in the original's words, and why."""
        return f"Role has encountered an error and has stopped. {self.reason}"


@dataclass(slots=True)
class InstanceStatus:
    """The instance's facts.

    Args:
        instance: its id.
        role: the role's name.
        detail: a sentence for people.
        refused: another one while the newest assignment is refused.
        generation: the newest assignment that the running role has taken.
        recycles: how often it was started again.
        pid: of the role process.
        started_at: when this life began.
        on_change: called after each change.
    """

    instance: str
    role: str = ""
    state: InstanceState = InstanceState.STARTING
    detail: str = "The host is starting."
    generation: int = 0
    recycles: int = 0
    fault_domain: int = 0
    update_domain: int = 0
    pid: int | None = None
    started_at: str | None = None
    ready_at: str | None = None
    endpoints: Mapping[str, RoleInstanceEndpoint] = field(default_factory=dict)
    last_crash: Crash | None = None
    crashes: int = 0
    failed_starts: int = 0
    hung: bool = False
    refused: str = ""
    on_change: Callable[[], None] = lambda: None

    def change(self, state: InstanceState, detail: str) -> None:
        """Go to another state, or say more of this one."""
        if (state, detail) == (self.state, self.detail):
            return
        self.state, self.detail = state, detail
        if state is InstanceState.READY:
            self.ready_at = self.ready_at or clock.iso(clock.now())
        elif state is InstanceState.STOPPED:
            self.started_at = self.ready_at = None
        self.on_change()

    def refuse(self, sentence: str) -> None:
        """An assignment can't be taken, and why; empty: the newest one is."""
        if sentence != self.refused:
            self.refused = sentence
            self.on_change()

    def begin_life(self) -> None:
        """Another life begins."""
        self.pid, self.ready_at, self.hung = None, None, False
        self.started_at = clock.iso(clock.now())

    def place(self, current: RoleInstance) -> None:
        """Note where the instance stands in the topology."""
        self.fault_domain, self.update_domain = current.fault_domain, current.update_domain
        self.endpoints = current.instance_endpoints

    def took(self, generation: int) -> None:
        """The running role has taken this assignment."""
        if generation != self.generation:
            self.generation = generation
            self.on_change()

    def note_end(self, crash: Crash | None, *, was_ready: bool, settled: bool) -> None:
        """Note how a life ended.

        Args:
            crash: None after an orderly end.
            was_ready: whether it had reached ready.
            settled: it lasted so long that what was before doesn't count any more.
        """
        self.pid = None
        if was_ready:
            self.failed_starts = 0
        if settled or crash is None:
            self.crashes = 0
        if crash is not None:
            self.last_crash = crash
            self.crashes += was_ready
            self.failed_starts += not was_ready

    @property
    def word(self) -> PlatformStatus:
        """The platform's word."""
        if plain := _PLAIN.get(self.state):
            return plain
        if self.hung:
            return PlatformStatus.UNRESPONSIVE_ROLE
        if self.failed_starts >= _LOOP:
            return PlatformStatus.FAILED_STARTING_ROLE
        if self.crashes >= _LOOP:
            return PlatformStatus.CYCLING_ROLE
        again = self.recycles > 0 or self.state is InstanceState.RECYCLING
        return PlatformStatus.RESTARTING_ROLE if again else PlatformStatus.STARTING_ROLE

    def facts(self) -> dict[str, Any]:
        """All of it, as a value that JSON can hold."""
        return {
            "instance": self.instance,
            "role": self.role,
            "state": str(self.state),
            "status": str(self.word),
            "detail": f"{self.detail} {self.refused}".strip(),
            "generation": self.generation,
            "recycles": self.recycles,
            "fault_domain": self.fault_domain,
            "update_domain": self.update_domain,
            "pid": self.pid,
            "started_at": self.started_at,
            "ready_at": self.ready_at,
            "heartbeat_at": clock.iso(clock.now()),
            "endpoints": {name: _written(each) for name, each in self.endpoints.items()},
            "last_crash": None if self.last_crash is None else asdict(self.last_crash),
        }


def _written(endpoint: RoleInstanceEndpoint) -> dict[str, str | int]:
    address, port = endpoint.ip_endpoint
    return {"protocol": endpoint.protocol, "address": address, "port": port}
