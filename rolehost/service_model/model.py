"""The service model: frozen values, the same whichever file they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

_Value = TypeVar("_Value")


def frozen(values: Mapping[str, _Value]) -> Mapping[str, _Value]:
    """A copy that can't be written to."""
    return MappingProxyType(dict(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStorage:
    """A directory of an instance's own (the original's LocalStorage element)."""

    name: str
    size_in_mb: int = 100
    clean_on_role_recycle: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class InputEndpoint:
    """A port that clients outside the service connect to."""

    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleModel:
    """One role: what runs in each of its instances, and with what.

    Args:
        entry_point: `module:Class`.
        settings: every configuration setting, the environment's on top.
        masked: names of declared settings whose value comes from the environment, whatever the definition says.
        environment: variables declared for the role; its console applications see them too.
    """

    name: str
    entry_point: str
    instances: int = 1
    settings: Mapping[str, str] = field(default_factory=lambda: frozen({}))
    masked: frozenset[str] = frozenset()
    local_resources: Mapping[str, LocalStorage] = field(default_factory=lambda: frozen({}))
    endpoints: Mapping[str, InputEndpoint] = field(default_factory=lambda: frozen({}))
    environment: Mapping[str, str] = field(default_factory=lambda: frozen({}))

    def instance_ids(self) -> tuple[str, ...]:
        """`<role>_IN_<n>`, the original's form."""
        return tuple(f"{self.name}_IN_{number}" for number in range(self.instances))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceModel:
    """A whole service.

    Args:
        roles: by name, in the order of the definition.
        drain_seconds: how long an orderly stop may take before it is cut short.
        on_stop_seconds: the same for a recycle that nobody outside waits for (the original's five minutes).
        recycle_seconds: the first pause of an instance that had been ready; the other pauses are in proportion.
        heartbeat_seconds: a role process that is silent for this long is hung.
        source: the definition file, or None for the built-in service.
        directory: where the role's own modules are found.
    """

    name: str
    roles: Mapping[str, RoleModel]
    drain_seconds: float = 25.0
    on_stop_seconds: float = 300.0
    recycle_seconds: float = 1.0
    heartbeat_seconds: float = 30.0
    source: Path | None = None
    directory: Path = field(default_factory=Path)
