"""What is known of a role instance before anything is made of it."""

from __future__ import annotations

from binascii import crc32
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from rolehost.host.assignment import Topology
from rolehost.host.paths import DataDirectory
from rolehost.service_model import LocalStorage, RoleModel, ServiceModel
from rolehost.service_model.model import DIAGNOSTIC_STORE


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFacts:
    """One instance of a role, as one generation of the deployment has it.

    Args:
        number: counts from 0 within the role.
        topology: every role's instances with their endpoints, whoever may see them.
        generation: which generation of the deployment.
        emulated: the whole service runs on this machine.
        environ: the variables that the role's and its tasks' start from.
    """

    model: ServiceModel
    role: RoleModel
    number: int
    data: DataDirectory
    deployment_id: str
    topology: Topology = field(default_factory=lambda: MappingProxyType({}))
    generation: int = 0
    emulated: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def instance_id(self) -> str:
        """`<role>_IN_<n>`."""
        return f"{self.role.name}_IN_{self.number}"

    @property
    def marker_prefix(self) -> str:
        """How the markers of all the instance's processes begin."""
        return marker_prefix(self.deployment_id, self.instance_id)

    @property
    def directory_name(self) -> str:
        """A short name for the instance's sockets, its own on this machine."""
        return f"rolehost-{self.deployment_id[:8]}-{crc32(self.instance_id.encode()):08x}"

    @property
    def storages(self) -> Mapping[str, LocalStorage]:
        """The instance's local resources; `DiagnosticStore` is one of them, declared or not."""
        return {DIAGNOSTIC_STORE.name: DIAGNOSTIC_STORE, **self.role.local_resources}


def marker_prefix(deployment_id: str, instance_id: str) -> str:
    """How the markers of an instance's processes begin: `<deployment>/<instance>/`."""
    return f"{deployment_id}/{instance_id}/"
