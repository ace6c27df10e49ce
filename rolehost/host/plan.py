"""What a bootstrapper knows of its instance before it starts it."""

from __future__ import annotations

import json
import os
import socket
from binascii import crc32
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from rolehost.environment import LocalResource, Role, RoleInstance, RoleInstanceEndpoint, Snapshot
from rolehost.errors import RoleHostError
from rolehost.host.listening import VARIABLE, described
from rolehost.host.paths import DataDirectory, role_root
from rolehost.processes import MARKER
from rolehost.service_model import RoleModel, ServiceModel

_UPDATE_DOMAINS = 5
_FAULT_DOMAINS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlan:
    """One instance of a role.

    Args:
        number: counts from 0 within the role.
        sockets: what listens for its endpoints.
        emulated: the whole service runs on this machine.
        environ: the variables that the role process starts from.
    """

    model: ServiceModel
    role: RoleModel
    number: int
    data: DataDirectory
    deployment_id: str
    sockets: Mapping[str, socket.socket] = field(default_factory=dict)
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

    def snapshot(self) -> Snapshot:
        """What the role environment holds when a life begins."""
        current = RoleInstance(
            self.instance_id,
            self.number % _FAULT_DOMAINS,
            self.number % _UPDATE_DOMAINS,
            MappingProxyType({name: self._endpoint(name) for name in self.role.endpoints}),
        )
        # Without internal endpoints a role sees no instance but its own.
        roles = {name: Role(name, (current,) if name == self.role.name else ()) for name in self.model.roles}
        resources = {name: self._resource(name) for name in self.role.local_resources}
        return Snapshot(
            deployment_id=self.deployment_id,
            is_emulated=self.emulated,
            current_role_instance=current,
            settings=self.role.settings,
            local_resources=MappingProxyType(resources),
            roles=MappingProxyType(roles),
        )

    def role_variables(self, runtime_endpoint: str, probe: str) -> dict[str, str]:
        """The environment of the role process.

        Args:
            runtime_endpoint: where its channel is.
            probe: `host:port` of the bootstrapper's probes.
        """
        temp = str(self.data.temp(self.instance_id))
        inherited = {name: value for name, value in self.environ.items() if name != MARKER}
        return inherited | {
            **self.role.environment,
            "RoleRoot": str(role_root()),
            "RoleName": self.role.name,
            "RoleInstanceID": self.instance_id,
            "RdRoleId": self.instance_id,
            "RoleDeploymentID": self.deployment_id,
            "WaRuntimeEndpoint": runtime_endpoint,
            **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temp),
            "ROLEHOST_DATA": str(self.data.root),
            "ROLEHOST_PROBE": probe,
            VARIABLE: described(self.sockets),
            "ROLEHOST_ROLE_VARIABLES": json.dumps(list(self.role.environment)),
            "ROLEHOST_DRAIN_SECONDS": f"{self.model.drain_seconds:g}",
        }

    def _endpoint(self, name: str) -> RoleInstanceEndpoint:
        host, port = self.sockets[name].getsockname()[:2]
        return RoleInstanceEndpoint(name, (host, port), self.role.endpoints[name].protocol)

    def _resource(self, name: str) -> LocalResource:
        root_path = f"{self.data.resource(self.instance_id, name)}{os.sep}"
        return LocalResource(name, root_path, self.role.local_resources[name].size_in_mb)


def marker_prefix(deployment_id: str, instance_id: str) -> str:
    """How the markers of an instance's processes begin: `<deployment>/<instance>/`."""
    return f"{deployment_id}/{instance_id}/"


def find_role(model: ServiceModel, name: str) -> RoleModel:
    """The role of this name.

    Raises:
        RoleHostError: there is none.
    """
    if role := model.roles.get(name):
        return role
    raise RoleHostError(f'the service has no role "{name}"; it has {", ".join(model.roles)}')
