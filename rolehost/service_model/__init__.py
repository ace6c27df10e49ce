"""What is deployed: the service definition, read, validated and overlaid with the environment's settings."""

from __future__ import annotations

from rolehost.service_model.builtin import BUILT_IN
from rolehost.service_model.loading import CONFIGURATION_VARIABLE, DEFINITION_FILE, Examined, examine, load
from rolehost.service_model.model import (
    Certificate,
    ExecutionContext,
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    LoadBalancerProbe,
    LocalStorage,
    PortRange,
    RoleKind,
    RoleModel,
    ServiceModel,
    StartupTask,
    TaskType,
    TopologyChangeDiscovery,
)
from rolehost.service_model.problems import Problem
from rolehost.service_model.support import not_run
from rolehost.service_model.xpaths import InstanceValue, parse_instance_value

__all__ = [
    "BUILT_IN",
    "CONFIGURATION_VARIABLE",
    "DEFINITION_FILE",
    "Certificate",
    "Examined",
    "ExecutionContext",
    "InputEndpoint",
    "InstanceInputEndpoint",
    "InstanceValue",
    "InternalEndpoint",
    "LoadBalancerProbe",
    "LocalStorage",
    "PortRange",
    "Problem",
    "RoleKind",
    "RoleModel",
    "ServiceModel",
    "StartupTask",
    "TaskType",
    "TopologyChangeDiscovery",
    "examine",
    "load",
    "not_run",
    "parse_instance_value",
]
