"""The worker-role runtime of Azure Cloud Services, brought to containers and to Python.

The public names load lazily: a bootstrapper imports this package and must stay small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rolehost._version import __version__

if TYPE_CHECKING:
    from rolehost.entrypoint import RoleEntryPoint
    from rolehost.environment import (
        Certificate,
        CertificateChange,
        ConfigurationSettingChange,
        LocalResource,
        Role,
        RoleEnvironment,
        RoleEnvironmentChange,
        RoleEnvironmentChanged,
        RoleEnvironmentChanging,
        RoleEnvironmentStopping,
        RoleInstance,
        RoleInstanceEndpoint,
        RoleInstanceStatus,
        RoleInstanceStatusCheck,
        SimultaneousChanged,
        SimultaneousChanging,
        SimultaneousTopologyChange,
        TopologyChange,
        get_setting,
        role_environment,
    )
    from rolehost.errors import BadInputError, RoleEnvironmentError, RoleHostError
    from rolehost.jobs.job import End, Job, JobSpec, JobState
    from rolehost.workers.console_app import ConsoleApp
    from rolehost.workers.console_worker import ConsoleAppWorker
    from rolehost.workers.exit_policy import ExitRule, Verdict
    from rolehost.workers.outcome import Outcome
    from rolehost.workers.progress import KeyValueProgress, PatternProgress, ResultProgress
    from rolehost.workers.queue_worker import QueueWorker
    from rolehost.workers.scratch import Scratch
    from rolehost.workers.thumbnail import ThumbnailWorker
    from rolehost.workers.transcode import TranscodeWorker
    from rolehost.workers.watchdog import Limits

__all__ = [
    "BadInputError",
    "Certificate",
    "CertificateChange",
    "ConfigurationSettingChange",
    "ConsoleApp",
    "ConsoleAppWorker",
    "End",
    "ExitRule",
    "Job",
    "JobSpec",
    "JobState",
    "KeyValueProgress",
    "Limits",
    "LocalResource",
    "Outcome",
    "PatternProgress",
    "QueueWorker",
    "ResultProgress",
    "Role",
    "RoleEntryPoint",
    "RoleEnvironment",
    "RoleEnvironmentChange",
    "RoleEnvironmentChanged",
    "RoleEnvironmentChanging",
    "RoleEnvironmentError",
    "RoleEnvironmentStopping",
    "RoleHostError",
    "RoleInstance",
    "RoleInstanceEndpoint",
    "RoleInstanceStatus",
    "RoleInstanceStatusCheck",
    "Scratch",
    "SimultaneousChanged",
    "SimultaneousChanging",
    "SimultaneousTopologyChange",
    "ThumbnailWorker",
    "TopologyChange",
    "TranscodeWorker",
    "Verdict",
    "__version__",
    "get_setting",
    "role_environment",
]

_HOMES = {
    "BadInputError": "rolehost.errors",
    "Certificate": "rolehost.environment",
    "CertificateChange": "rolehost.environment",
    "ConfigurationSettingChange": "rolehost.environment",
    "ConsoleApp": "rolehost.workers.console_app",
    "ConsoleAppWorker": "rolehost.workers.console_worker",
    "End": "rolehost.jobs.job",
    "ExitRule": "rolehost.workers.exit_policy",
    "Job": "rolehost.jobs.job",
    "JobSpec": "rolehost.jobs.job",
    "JobState": "rolehost.jobs.job",
    "KeyValueProgress": "rolehost.workers.progress",
    "Limits": "rolehost.workers.watchdog",
    "LocalResource": "rolehost.environment",
    "Outcome": "rolehost.workers.outcome",
    "PatternProgress": "rolehost.workers.progress",
    "QueueWorker": "rolehost.workers.queue_worker",
    "ResultProgress": "rolehost.workers.progress",
    "Role": "rolehost.environment",
    "RoleEntryPoint": "rolehost.entrypoint",
    "RoleEnvironment": "rolehost.environment",
    "RoleEnvironmentChange": "rolehost.environment",
    "RoleEnvironmentChanged": "rolehost.environment",
    "RoleEnvironmentChanging": "rolehost.environment",
    "RoleEnvironmentError": "rolehost.errors",
    "RoleEnvironmentStopping": "rolehost.environment",
    "RoleHostError": "rolehost.errors",
    "RoleInstance": "rolehost.environment",
    "RoleInstanceEndpoint": "rolehost.environment",
    "RoleInstanceStatus": "rolehost.environment",
    "RoleInstanceStatusCheck": "rolehost.environment",
    "Scratch": "rolehost.workers.scratch",
    "SimultaneousChanged": "rolehost.environment",
    "SimultaneousChanging": "rolehost.environment",
    "SimultaneousTopologyChange": "rolehost.environment",
    "ThumbnailWorker": "rolehost.workers.thumbnail",
    "TopologyChange": "rolehost.environment",
    "TranscodeWorker": "rolehost.workers.transcode",
    "Verdict": "rolehost.workers.exit_policy",
    "get_setting": "rolehost.environment",
    "role_environment": "rolehost.environment",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rolehost' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
