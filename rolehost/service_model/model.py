"""The service model: frozen values, the same whichever file they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from rolehost.service_model.hooks import HookDeclaration
from rolehost.service_model.worker import WorkerDeclaration

_Value = TypeVar("_Value")

TIMES = (
    *("drain_seconds", "on_stop_seconds", "recycle_seconds", "heartbeat_seconds"),
    *("start_seconds", "changing_seconds", "status_check_seconds"),
)
"""The service's times; each is a variable, too: `ROLEHOST_DRAIN_SECONDS`."""
STORES = {"storage": "ROLEHOST_STORAGE", "queue": "ROLEHOST_QUEUE"}
"""Where a service keeps its jobs and messages, and the variables that go over it."""


def frozen(values: Mapping[str, _Value]) -> Mapping[str, _Value]:
    """A copy that can't be written to."""
    return MappingProxyType(dict(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStorage:
    """A directory of an instance's own (the original's LocalStorage element)."""

    name: str
    size_in_mb: int = 100
    clean_on_role_recycle: bool = True


DIAGNOSTIC_STORE = LocalStorage(name="DiagnosticStore", size_in_mb=4096, clean_on_role_recycle=False)
"""What every role has, whether its definition says so or not."""


class RoleKind(StrEnum):
    """What the role was made as; here both run alike, in a process of their own."""

    WORKER = "worker"
    WEB = "web"


class ExecutionContext(StrEnum):
    """With which rights something runs."""

    LIMITED = "limited"
    ELEVATED = "elevated"


class TaskType(StrEnum):
    """How a startup task stands to the start of its role."""

    SIMPLE = "simple"
    BACKGROUND = "background"
    FOREGROUND = "foreground"


class TopologyChangeDiscovery(StrEnum):
    """How the instances are told of a change of the topology: domain by domain, or all at once."""

    UPGRADE_DOMAIN_WALK = "UpgradeDomainWalk"
    BLAST = "Blast"


class RecycleBackoff(StrEnum):
    """How the pauses of an instance that keeps failing grow."""

    ROLEHOST = "rolehost"
    SERVICE_FABRIC = "service_fabric"
    KUDU = "kudu"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


ANY_PORTS = PortRange(1, 65535)
"""Stands in for a range that is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputEndpoint:
    """A port that clients outside the service connect to.

    Args:
        protocol: http, https, tcp or udp.
        port: the public one.
        local_port: what an instance binds: None: the same as `port`; 0: whichever is free (`*` in a csdef).
        certificate: the name of one of the role's certificates; https has one.
        ignore_role_instance_status: busy instances get connections, too.
        probe: the name of one of the service's probes; empty: ready is what the instance's status says.
    """

    name: str
    protocol: str
    port: int
    local_port: int | None = None
    certificate: str = ""
    ignore_role_instance_status: bool = False
    probe: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalEndpoint:
    """A port that only the service's own instances connect to.

    Args:
        protocol: http, tcp, udp or any.
        ports: the one to take is in this range; None: whichever is free.
    """

    name: str
    protocol: str = "tcp"
    ports: PortRange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceInputEndpoint:
    """A public port for each instance.

    Args:
        protocol: tcp or udp.
        local_port: what the instance binds.
        public_ports: the instances' ports, at least as many as there are instances.
    """

    name: str
    protocol: str
    local_port: int
    public_ports: PortRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that the role is given.

    Args:
        thumbprint: SHA-1, 40 hexadecimal digits in upper case.
        store_location: LocalMachine or CurrentUser; where the original kept it.
        store_name: the same.
        permission_level: limitedOrElevated or elevated: who reads the private key.
    """

    name: str
    thumbprint: str
    store_location: str = "LocalMachine"
    store_name: str = "My"
    permission_level: str = "limitedOrElevated"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupTask:
    """What runs before the role starts.

    Args:
        command_line: a path below approot, and arguments; never for a shell.
        environment: variables with their values.
        instance_values: variables with the XPath of the role environment's document that has the value.
    """

    command_line: str
    execution_context: ExecutionContext = ExecutionContext.LIMITED
    task_type: TaskType = TaskType.SIMPLE
    environment: Mapping[str, str] = field(default_factory=lambda: frozen({}))
    instance_values: Mapping[str, str] = field(default_factory=lambda: frozen({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerProbe:
    """How the load balancer asks whether an instance takes connections.

    Args:
        protocol: http, with a path, or tcp.
        port: None: that of the endpoint.
    """

    name: str
    protocol: str
    path: str = ""
    port: int | None = None
    interval_seconds: int = 15
    timeout_seconds: int = 31


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleModel:
    """One role: what runs in each of its instances, and with what.

    Args:
        entry_point: `module:Class`; empty where `program` runs, or where a csdef names none that Python can load.
        program: the command line of a guest program (the original's ProgramEntryPoint), below approot.
        execution_context: the rights of the role's process.
        settings: every configuration setting, the environment's on top.
        masked: declared settings whose value comes from the environment, with the value that the definition has for
            them, which is hidden.
        undeclared: names of settings that only the environment has.
        local_resources: `DiagnosticStore` is always among them.
        environment: variables declared for the role; its console applications see them too.
        instance_values: variables with the XPath of the role environment's document that has the value.
        endpoints: those for clients outside the service.
        startup_tasks: in the order of the definition.
        contents: what is put below approot: the destination there, and the directory that it comes from, relative to
            the service's directory unless it is absolute.
        worker: the kind of job that its class works on, or the whole worker, where it names a program; None: nothing is
            declared.
    """

    name: str
    entry_point: str
    instances: int = 1
    settings: Mapping[str, str] = field(default_factory=lambda: frozen({}))
    masked: Mapping[str, str] = field(default_factory=lambda: frozen({}))
    undeclared: frozenset[str] = frozenset()
    local_resources: Mapping[str, LocalStorage] = field(
        default_factory=lambda: frozen({DIAGNOSTIC_STORE.name: DIAGNOSTIC_STORE})
    )
    endpoints: Mapping[str, InputEndpoint] = field(default_factory=lambda: frozen({}))
    environment: Mapping[str, str] = field(default_factory=lambda: frozen({}))
    kind: RoleKind = RoleKind.WORKER
    program: str = ""
    execution_context: ExecutionContext = ExecutionContext.LIMITED
    instance_values: Mapping[str, str] = field(default_factory=lambda: frozen({}))
    startup_tasks: tuple[StartupTask, ...] = ()
    internal_endpoints: Mapping[str, InternalEndpoint] = field(default_factory=lambda: frozen({}))
    instance_input_endpoints: Mapping[str, InstanceInputEndpoint] = field(default_factory=lambda: frozen({}))
    certificates: Mapping[str, Certificate] = field(default_factory=lambda: frozen({}))
    contents: Mapping[str, Path] = field(default_factory=lambda: frozen({}))
    worker: WorkerDeclaration | None = None

    def instance_ids(self) -> tuple[str, ...]:
        """`<role>_IN_<n>`, the original's form."""
        return tuple(f"{self.name}_IN_{number}" for number in range(self.instances))

    def declared_settings(self) -> Mapping[str, str]:
        """The settings as the definition has them, without the environment's."""
        seen = {name: value for name, value in self.settings.items() if name not in self.undeclared}
        return frozen({**seen, **self.masked})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceModel:
    """A whole service.

    Args:
        roles: by name, in the order of the definition.
        drain_seconds: how long an orderly stop may take before it is cut short.
        on_stop_seconds: the same for a recycle that nobody outside waits for (the original's five minutes).
        recycle_seconds: the first pause of an instance that had been ready; the other pauses are in proportion.
        heartbeat_seconds: a role process that is silent for this long is hung.
        start_seconds: how long an instance may take to get ready; an update walks on after it.
        changing_seconds: how long the handlers of a change may take before the instance is recycled instead.
        status_check_seconds: how often a role is asked whether it is busy.
        recycle_backoff: how the pauses of an instance that keeps failing grow.
        upgrade_domain_count: over how many domains the instances are spread.
        os_family: the original's operating system, for people to read; nothing depends on it.
        os_version: the same.
        probes: what input endpoints name as their probe.
        hooks: what other systems' messages become jobs by, by name.
        storage: where jobs are kept, as `ROLEHOST_STORAGE` has it; empty: not said.
        queue: where messages are, as `ROLEHOST_QUEUE` has it; empty: not said.
        source: the definition file, or None for the built-in service.
        configuration: the `.cscfg` that was read with it, if there is one.
        directory: where the role's own modules, its approot and its certificates are found.
    """

    name: str
    roles: Mapping[str, RoleModel]
    drain_seconds: float = 25.0
    on_stop_seconds: float = 300.0
    recycle_seconds: float = 1.0
    heartbeat_seconds: float = 30.0
    start_seconds: float = 1800.0
    changing_seconds: float = 30.0
    status_check_seconds: float = 15.0
    recycle_backoff: RecycleBackoff = RecycleBackoff.ROLEHOST
    topology_change_discovery: TopologyChangeDiscovery = TopologyChangeDiscovery.UPGRADE_DOMAIN_WALK
    upgrade_domain_count: int = 5
    os_family: str = ""
    os_version: str = ""
    probes: Mapping[str, LoadBalancerProbe] = field(default_factory=lambda: frozen({}))
    hooks: Mapping[str, HookDeclaration] = field(default_factory=lambda: frozen({}))
    storage: str = ""
    queue: str = ""
    source: Path | None = None
    directory: Path = field(default_factory=Path)
    configuration: Path | None = None

    def stores_over(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables that name the stores, for processes of this service: what the environment says goes first.

        Args:
            environ: the environment; an empty variable says nothing.
        """
        said = {variable: str(getattr(self, key)) for key, variable in STORES.items()}
        return {name: value for name, value in said.items() if value and not environ.get(name, "").strip()}
