"""What a role environment is made of: frozen values, in the words of Microsoft.WindowsAzure.ServiceRuntime.

Everybody imports them from `rolehost.environment`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


class RoleInstanceStatus(Enum):
    """Whether an instance takes requests."""

    BUSY = "Busy"
    READY = "Ready"


@dataclass(frozen=True, slots=True)
class LocalResource:
    """A directory of the instance's own.

    Args:
        name: as declared.
        root_path: an absolute path that ends with a separator; the directory exists.
        maximum_size_in_megabytes: as declared.
    """

    name: str
    root_path: str
    maximum_size_in_megabytes: int = 100


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of the role.

    Args:
        name: as declared.
        thumbprint: SHA-1 in 40 hexadecimal digits, upper case.
        path: the PEM file; empty: it isn't installed here.
    """

    name: str
    thumbprint: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class RoleInstanceEndpoint:
    """Where an instance listens.

    Args:
        name: as declared.
        ip_endpoint: address and port that the instance binds, and that other instances connect to.
        protocol: as declared.
        public_ip_endpoint: the address and the port that clients outside the service connect to, of which only the
            port means something (jj157246); None: the service is emulated, or the endpoint isn't public.
    """

    name: str
    ip_endpoint: tuple[str, int]
    protocol: str
    public_ip_endpoint: tuple[str, int] | None = None
    # Set by the instance that holds it: each names the other.
    role_instance: RoleInstance = field(init=False, compare=False, repr=False)


@dataclass(frozen=True)
class RoleInstance:
    """One instance of a role; `id` has the form `<role>_IN_<n>`, the domains count from 0."""

    id: str
    fault_domain: int = 0
    update_domain: int = 0
    instance_endpoints: Mapping[str, RoleInstanceEndpoint] = field(default_factory=_nothing, hash=False)
    # Set by the role that holds it: each names the other.
    role: Role = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for endpoint in self.instance_endpoints.values():
            object.__setattr__(endpoint, "role_instance", self)

    @property
    def virtual_ip_groups(self) -> Mapping[str, Any]:
        """Empty: the original never documented what it holds (dn481483)."""
        return _nothing()


@dataclass(frozen=True)
class Role:
    """A role of the service, with the instances of it that this one may see."""

    name: str
    instances: tuple[RoleInstance, ...] = ()

    def __post_init__(self) -> None:
        for instance in self.instances:
            object.__setattr__(instance, "role", self)


@dataclass(frozen=True)
class Snapshot:
    """Everything that is known at one moment; never changed, only replaced."""

    deployment_id: str
    is_emulated: bool
    current_role_instance: RoleInstance
    settings: Mapping[str, str]
    local_resources: Mapping[str, LocalResource]
    roles: Mapping[str, Role]
    certificates: Mapping[str, Certificate] = field(default_factory=_nothing)
