"""What is deployed: the service definition, read, validated and overlaid with the environment's settings."""

from __future__ import annotations

from rolehost.service_model.builtin import BUILT_IN
from rolehost.service_model.documents import document_of, write_model
from rolehost.service_model.loading import CONFIGURATION_VARIABLE, DEFINITION_FILE, Examined, examine, load, unsupported
from rolehost.service_model.model import (
    DIAGNOSTIC_STORE,
    Certificate,
    ExecutionContext,
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    LoadBalancerProbe,
    LocalStorage,
    PortRange,
    RecycleBackoff,
    RoleKind,
    RoleModel,
    ServiceModel,
    StartupTask,
    TaskType,
    TopologyChangeDiscovery,
)
from rolehost.service_model.problems import Problem
from rolehost.service_model.rules import scaling_refusals
from rolehost.service_model.updating import Differences, differences, needs_restart, read_update, refusals
from rolehost.service_model.worker import WorkerDeclaration
from rolehost.service_model.xpaths import InstanceValue, parse_instance_value

__all__ = [
    "BUILT_IN",
    "CONFIGURATION_VARIABLE",
    "DEFINITION_FILE",
    "DIAGNOSTIC_STORE",
    "Certificate",
    "Differences",
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
    "RecycleBackoff",
    "RoleKind",
    "RoleModel",
    "ServiceModel",
    "StartupTask",
    "TaskType",
    "TopologyChangeDiscovery",
    "WorkerDeclaration",
    "differences",
    "document_of",
    "examine",
    "load",
    "needs_restart",
    "parse_instance_value",
    "read_update",
    "refusals",
    "scaling_refusals",
    "unsupported",
    "write_model",
]
