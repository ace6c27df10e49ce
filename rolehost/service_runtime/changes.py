"""What differs between two snapshots, in the words that `changing` and `changed` use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rolehost.service_runtime.events import (
    CertificateChange,
    Changes,
    ConfigurationSettingChange,
    RoleEnvironmentChange,
    SimultaneousTopologyChange,
    TopologyChange,
)
from rolehost.service_runtime.topology import Certificate, Role, RoleInstance, Snapshot


@dataclass(frozen=True, slots=True)
class EnvironmentChange:
    """A new snapshot, and what is told of it.

    Args:
        snapshot: what will be read.
        changes: those that `changing` and `changed` tell.
        simultaneous: those that `simultaneous_changing` and `simultaneous_changed` tell.
    """

    snapshot: Snapshot
    changes: Changes
    simultaneous: Changes = ()

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.changes or self.simultaneous)


def compare(old: Snapshot, new: Snapshot, *, simultaneous: bool = False) -> EnvironmentChange:
    """The difference of two snapshots, as Microsoft's published clients find it; certificates as .NET tells them.

    Args:
        old: what is read now.
        new: what will be.
        simultaneous: changes of the topology are told apart from the others, and can't be refused.
    """
    settings = map(ConfigurationSettingChange, _differing(old.settings, new.settings))
    roles = list(_differing(_places(old.roles), _places(new.roles)))
    others = (*settings, *_certificates(old.certificates, new.certificates))
    if simultaneous:
        return EnvironmentChange(new, others, tuple(map(SimultaneousTopologyChange, roles)))
    topology: Changes = tuple(map(TopologyChange, roles))
    return EnvironmentChange(new, _ordered(others, topology))


def _ordered(others: Changes, topology: Changes) -> Changes:
    """Settings, then roles, then certificates."""
    settings = tuple(each for each in others if isinstance(each, ConfigurationSettingChange))
    return (*settings, *topology, *others[len(settings) :])


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """The names of what is in both and not equal, or in one only."""
    for name in {**old, **new}:
        if name not in old or name not in new or old[name] != new[name]:
            yield name


def _places(roles: Mapping[str, Role]) -> dict[str, dict[str, object]]:
    return {name: {instance.id: _place(instance) for instance in role.instances} for name, role in roles.items()}


def _place(instance: RoleInstance) -> object:
    """What counts of an instance; the public side of its endpoints doesn't."""
    endpoints = {name: (each.protocol, each.ip_endpoint) for name, each in instance.instance_endpoints.items()}
    return instance.fault_domain, instance.update_domain, endpoints


def _certificates(old: Mapping[str, Certificate], new: Mapping[str, Certificate]) -> Iterator[RoleEnvironmentChange]:
    before = {name: certificate.thumbprint for name, certificate in old.items()}
    after = {name: certificate.thumbprint for name, certificate in new.items()}
    for name in _differing(before, after):
        yield CertificateChange(after.get(name) or before[name])
