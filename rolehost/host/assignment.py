"""What an instance is to be, as the fabric (or, in a container, the instance's own bootstrapper) has decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeAlias

from rolehost.environment import Role, RoleInstance, RoleInstanceEndpoint

Topology: TypeAlias = "Mapping[str, Role]"
"""Every role by name, with all its instances and all their endpoints, whoever may see them."""

_FAULT_DOMAINS = 2


def domains_of(number: int, upgrade_domain_count: int) -> tuple[int, int]:
    """The fault and the update domain of an instance, each from 0: instances are spread evenly, as in the original.

    Args:
        number: the instance's within its role.
        upgrade_domain_count: the service's.
    """
    return number % _FAULT_DOMAINS, number % upgrade_domain_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One generation of the deployment, as an instance is told of it.

    Args:
        generation: counts the accepted changes, from 1.
        model: the service's model, a `service.toml`; None: the built-in one.
        directory: where the role's modules, its approot and its certificates are.
        topology: every role's instances.
        simultaneous: the topology is told to all instances at once (the original's `Blast`).
        public: `host:port` of the instance's public endpoints by name, where the host's load balancer has them; None:
            they are as they were when the bootstrapper started.
    """

    generation: int
    model: Path | None
    directory: Path
    topology: Topology
    simultaneous: bool = False
    public: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """As a value that JSON can hold."""
        return {
            "generation": self.generation,
            "model": None if self.model is None else str(self.model),
            "directory": str(self.directory),
            "simultaneous": self.simultaneous,
            "public": None if self.public is None else dict(self.public),
            "topology": {name: [_written(each) for each in role.instances] for name, role in self.topology.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From what `to_json` made."""
        topology = {name: Role(name, tuple(map(_read, each))) for name, each in value["topology"].items()}
        return cls(
            generation=value["generation"],
            model=None if value["model"] is None else Path(value["model"]),
            directory=Path(value["directory"]),
            topology=MappingProxyType(topology),
            simultaneous=value["simultaneous"],
            public=value.get("public"),
        )


def _written(instance: RoleInstance) -> dict[str, Any]:
    endpoints = {
        name: {"address": each.ip_endpoint[0], "port": each.ip_endpoint[1], "protocol": each.protocol}
        for name, each in instance.instance_endpoints.items()
    }
    return {
        "id": instance.id,
        "fault_domain": instance.fault_domain,
        "update_domain": instance.update_domain,
        "endpoints": endpoints,
    }


def _read(value: Mapping[str, Any]) -> RoleInstance:
    endpoints = {
        name: RoleInstanceEndpoint(name, (each["address"], each["port"]), each["protocol"])
        for name, each in value["endpoints"].items()
    }
    return RoleInstance(value["id"], value["fault_domain"], value["update_domain"], MappingProxyType(endpoints))
