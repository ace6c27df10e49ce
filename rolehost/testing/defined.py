"""A worker as a definition has it: by configuration alone, or a class with the role's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from rolehost.entrypoint import load_entry_point
from rolehost.errors import ServiceModelError
from rolehost.jobs.declared import kinds_of
from rolehost.jobs.kinds import JobKind
from rolehost.service_model import RoleModel, ServiceModel, load
from rolehost.service_model.worker import CONFIGURED
from rolehost.workers.configured import ConfiguredWorker
from rolehost.workers.queue_worker import QueueWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinedWorker:
    """A role of a definition, to be given to `run_once`.

    Args:
        make: makes the worker.
        role: the role's name.
        service: whose files `{approot}` leads to; None: to those beside the class's module.
        settings: the role's.
        environment: the role's variables.
        kinds: what the service takes jobs of; None: whatever this process knows.
    """

    make: Callable[[], QueueWorker]
    role: str
    service: ServiceModel | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    kinds: Sequence[JobKind] | None = None


def worker_in(definition: str | PathLike[str], role: str) -> DefinedWorker:
    """The worker that a role is.

    Args:
        definition: a `service.toml` or a `.csdef`.
        role: its name there.

    Raises:
        ServiceModelError: the definition is not valid, has no such role, or that role is no worker.
        EntryPointError: the role's class can't be loaded.
    """
    path = Path(definition).absolute()
    model = load(path, {})
    if role not in model.roles:
        raise ServiceModelError([f"{path.name} has no role {role!r}, but {', '.join(model.roles)}"])
    found = model.roles[role]
    return DefinedWorker(
        make=_maker(found, model, path),
        role=role,
        service=model,
        settings=found.settings,
        environment=found.environment,
        kinds=kinds_of(model),
    )


def _maker(role: RoleModel, model: ServiceModel, path: Path) -> Callable[[], QueueWorker]:
    declared = role.worker
    if declared is not None and role.entry_point == CONFIGURED:
        return lambda: ConfiguredWorker(declared)
    found = load_entry_point(role.entry_point, model.directory) if role.entry_point else None
    if found is None or not issubclass(found, QueueWorker):
        raise ServiceModelError([f"the role {role.name!r} of {path.name} is no worker: it takes no jobs"])
    return found
