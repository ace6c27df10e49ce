"""What a bootstrapper knows of its instance before it starts it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from types import MappingProxyType

from rolehost.environment import Certificate, LocalResource, Role, RoleInstance, RoleInstanceEndpoint, Snapshot
from rolehost.errors import RoleHostError
from rolehost.host.assignment import domains_of
from rolehost.host.instance import certificates, variables
from rolehost.host.instance.plan_facts import PlanFacts, marker_prefix
from rolehost.service_model import LocalStorage, RoleModel, ServiceModel, StartupTask

__all__ = ["InstancePlan", "find_role", "marker_prefix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlan(PlanFacts):
    """One instance of a role, as one generation of the deployment has it: what its processes are told."""

    def snapshot(self) -> Snapshot:
        """What the role environment holds when a life begins, or when this plan takes the place of another.

        Raises:
            StartupError: the file of one of the role's certificates can't be read.
        """
        roles = {name: self._visible(name) for name in self.model.roles}
        current = self._current(roles[self.role.name])
        return Snapshot(
            deployment_id=self.deployment_id,
            is_emulated=self.emulated,
            current_role_instance=current,
            settings=self.role.settings,
            local_resources=MappingProxyType({name: self._resource(each) for name, each in self.storages.items()}),
            roles=MappingProxyType(roles),
            certificates=MappingProxyType(self._certificates()),
        )

    def placed(self) -> RoleInstance:
        """The instance itself in its topology; no file is read."""
        return self._current(self._visible(self.role.name))

    def role_variables(self, runtime_endpoint: str, probe: str) -> dict[str, str]:
        """The environment of the role process, or of the program that is the role.

        Args:
            runtime_endpoint: where its channel is.
            probe: `host:port` of the bootstrapper's probes.
        """
        return variables.of_role(self, self.snapshot(), runtime_endpoint, probe)

    def task_variables(self, task: StartupTask) -> dict[str, str]:
        """The environment of a startup task."""
        return variables.of_task(self, self.snapshot(), task)

    def _current(self, role: Role) -> RoleInstance:
        return next(each for each in role.instances if each.id == self.instance_id)

    def _visible(self, name: str) -> Role:
        """A role as this instance sees it: one without internal endpoints lists no instance but the current one."""
        instances = self.topology[name].instances if name in self.topology else ()
        if name == self.role.name and self.instance_id not in {each.id for each in instances}:
            domains = domains_of(self.number, self.model.upgrade_domain_count)
            instances = (*instances, RoleInstance(self.instance_id, *domains))
        if not self.model.roles[name].internal_endpoints:
            instances = tuple(each for each in instances if each.id == self.instance_id)
        # Copies: an instance belongs to one `Role` object.
        return Role(name, tuple(self._copied(name, each) for each in instances))

    def _copied(self, role: str, instance: RoleInstance) -> RoleInstance:
        endpoints = {name: self._endpoint(role, instance, each) for name, each in instance.instance_endpoints.items()}
        return replace(instance, instance_endpoints=MappingProxyType(endpoints))

    def _endpoint(self, role: str, instance: RoleInstance, endpoint: RoleInstanceEndpoint) -> RoleInstanceEndpoint:
        port = None if self.emulated else self._public_port(self.model.roles[role], instance.id, endpoint.name)
        return replace(endpoint, public_ip_endpoint=None if port is None else (endpoint.ip_endpoint[0], port))

    def _public_port(self, role: RoleModel, instance_id: str, endpoint: str) -> int | None:
        if declared := role.endpoints.get(endpoint):
            return declared.port
        if own := role.instance_input_endpoints.get(endpoint):
            return own.public_ports.first + int(instance_id.rpartition("_IN_")[2])
        return None

    def _certificates(self) -> dict[str, Certificate]:
        files = certificates.found(self)
        return {
            name: Certificate(name, declared.thumbprint, str(files.get(name, "")))
            for name, declared in self.role.certificates.items()
        }

    def _resource(self, storage: LocalStorage) -> LocalResource:
        root_path = f"{self.data.resource(self.instance_id, storage.name)}{os.sep}"
        return LocalResource(storage.name, root_path, storage.size_in_mb)


def find_role(model: ServiceModel, name: str) -> RoleModel:
    """The role of this name.

    Raises:
        RoleHostError: there is none.
    """
    if role := model.roles.get(name):
        return role
    raise RoleHostError(f'the service has no role "{name}"; it has {", ".join(model.roles)}')
