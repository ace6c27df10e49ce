"""The worker-role runtime of Azure Cloud Services, brought to containers and to Python.

The public names load lazily: a bootstrapper imports this package and must stay small.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rolehost._version import __version__

if TYPE_CHECKING:
    from rolehost.entrypoint import RoleEntryPoint
    from rolehost.environment import LocalResource, Role, RoleEnvironment, RoleInstance, role_environment
    from rolehost.errors import RoleEnvironmentError, RoleHostError
    from rolehost.jobs.job import Job, JobState
    from rolehost.workers.console_app import ConsoleApp
    from rolehost.workers.console_worker import ConsoleAppWorker
    from rolehost.workers.queue_worker import QueueWorker
    from rolehost.workers.thumbnail import ThumbnailWorker

__all__ = [
    "ConsoleApp",
    "ConsoleAppWorker",
    "Job",
    "JobState",
    "LocalResource",
    "QueueWorker",
    "Role",
    "RoleEntryPoint",
    "RoleEnvironment",
    "RoleEnvironmentError",
    "RoleHostError",
    "RoleInstance",
    "ThumbnailWorker",
    "__version__",
    "role_environment",
]

_HOMES = {
    "ConsoleApp": "rolehost.workers.console_app",
    "ConsoleAppWorker": "rolehost.workers.console_worker",
    "Job": "rolehost.jobs.job",
    "JobState": "rolehost.jobs.job",
    "LocalResource": "rolehost.environment",
    "QueueWorker": "rolehost.workers.queue_worker",
    "Role": "rolehost.environment",
    "RoleEntryPoint": "rolehost.entrypoint",
    "RoleEnvironment": "rolehost.environment",
    "RoleEnvironmentError": "rolehost.errors",
    "RoleHostError": "rolehost.errors",
    "RoleInstance": "rolehost.environment",
    "ThumbnailWorker": "rolehost.workers.thumbnail",
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
