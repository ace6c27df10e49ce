"""From one model of a running service to the next: what may change in place, what did, and who has to start again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rolehost.errors import ServiceModelError
from rolehost.service_model.loading import CSCFG, CSDEF, examine, runnable
from rolehost.service_model.model import TIMES, RoleModel, ServiceModel, frozen
from rolehost.service_model.worker import CONFIGURED, WorkerDeclaration

# What the host goes by, while the roles go on; and the directory, which starts every role again.
_SERVICE = (
    *("name", "directory", *TIMES, "recycle_backoff", "topology_change_discovery", "upgrade_domain_count"),
    *("probes", "os_family", "os_version"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What an update changes; names only, no values.

    Args:
        settings: by role, the settings whose value a role sees change.
        masked: by role, the settings that the files change and the environment hides: nothing happens to them.
        instances: by role, how many there were and how many there will be.
        certificates: by role, the certificates whose thumbprint changes.
        definition: by role, what else of it changes, which starts its instances again.
        service: what of the service itself changes.
    """

    settings: Mapping[str, tuple[str, ...]]
    masked: Mapping[str, tuple[str, ...]]
    instances: Mapping[str, tuple[int, int]]
    certificates: Mapping[str, tuple[str, ...]]
    definition: Mapping[str, tuple[str, ...]]
    service: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether anything is to be done; what is masked is not."""
        return any((self.settings, self.instances, self.certificates, self.definition, self.service))

    def to_json(self) -> dict[str, Any]:
        """As a value that JSON can hold."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            found[each.name] = (
                {role: list(part) for role, part in value.items()} if isinstance(value, Mapping) else list(value)
            )
        return found


def refusals(old: ServiceModel, new: ServiceModel) -> list[str]:
    """Why a running service can't be changed in place; empty: it can.

    The original's page on updating a cloud service has the list.

    Args:
        old: what runs.
        new: what it is to become.
    """
    return [*_of_the_service(old, new), *_of_the_roles(old, new)]


def needs_restart(old: ServiceModel, new: ServiceModel, role: str) -> bool:
    """Whether a role's instances have to start again for a change.

    Settings, instance counts, thumbprints, times and what only the host goes by don't need it.

    Args:
        old: what its instances run with.
        new: what they are to run with; it has the role, too.
        role: its name.
    """
    both = old.roles[role], new.roles[role]
    return old.directory != new.directory or bool(_of_the_definition(*both)) or _is_told_kinds(old, new, both[1])


def differences(old: ServiceModel, new: ServiceModel) -> Differences:
    """What an update changes, role by role.

    Args:
        old: what runs.
        new: what it is to become.
    """
    both = _both(old, new)
    return Differences(
        settings=_by_role(both, lambda a, b: _changed(a.settings, b.settings)),
        masked=_by_role(both, _masked),
        instances=frozen({a.name: (a.instances, b.instances) for a, b in both if a.instances != b.instances}),
        certificates=_by_role(both, lambda a, b: _changed(_thumbprints(a), _thumbprints(b))),
        definition=_by_role(both, lambda a, b: _of_the_definition(a, b) + ("kinds",) * _is_told_kinds(old, new, b)),
        service=tuple(key for key in _SERVICE if getattr(old, key) != getattr(new, key)),
    )


def read_update(path: Path, running: ServiceModel, environ: Mapping[str, str]) -> ServiceModel:
    """The model that a running service is to take.

    Args:
        path: a `.cscfg`, for the csdef that the service runs with; a `.csdef`, with the configuration that the service
            runs with, if that is beside it, else the one that `load` finds; or a `service.toml`.
        running: what the service runs with.
        environ: variables that go over the definition, as for `load`.

    Raises:
        ServiceModelError: with every problem.
    """
    path = path.absolute()
    if path.suffix.lower() == CSCFG:
        if running.source is None or running.source.suffix.lower() != CSDEF:
            told = "a configuration (.cscfg) goes with a definition (.csdef), but the service runs with"
            raise ServiceModelError([f"{path}: M01: {told} {running.source or 'the built-in definition'}"])
        return runnable(examine(running.source, environ, configuration=path, directory=running.directory))
    configuration = None
    if path.suffix.lower() == CSDEF and running.configuration and running.configuration.parent == path.parent:
        configuration = running.configuration
    return runnable(examine(path, environ, configuration=configuration))


def _of_the_service(old: ServiceModel, new: ServiceModel) -> Iterator[str]:
    if old.name != new.name:
        yield f'the service is "{old.name}", and can\'t become "{new.name}": start that one by itself'
    if old.upgrade_domain_count != new.upgrade_domain_count:
        told = f"{old.upgrade_domain_count}, and can't become {new.upgrade_domain_count} while the service runs"
        yield f"the number of upgrade domains is {told}"
    if (old.storage, old.queue) != (new.storage, new.queue):
        yield "where jobs and messages are can't change while the service runs: start it again"


def _of_the_roles(old: ServiceModel, new: ServiceModel) -> Iterator[str]:
    gone = [name for name in old.roles if name not in new.roles]
    come = [name for name in new.roles if name not in old.roles]
    if len(gone) == len(come) == 1:
        yield f'the role "{gone[0]}" can\'t be renamed to "{come[0]}" while the service runs'
    else:
        yield from (f'the role "{name}" can\'t be taken away while the service runs' for name in gone)
        yield from (f'the role "{name}" can\'t be added while the service runs' for name in come)
    for old_role, new_role in _both(old, new):
        yield from _of_the_storage(old_role, new_role)


def _both(old: ServiceModel, new: ServiceModel) -> list[tuple[RoleModel, RoleModel]]:
    return [(role, new.roles[name]) for name, role in old.roles.items() if name in new.roles]


def _by_role(
    roles: list[tuple[RoleModel, RoleModel]], changed: Callable[[RoleModel, RoleModel], tuple[str, ...]]
) -> Mapping[str, tuple[str, ...]]:
    return frozen({old.name: names for old, new in roles if (names := changed(old, new))})


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name in {**old, **new} if old.get(name) != new.get(name))


def _masked(old: RoleModel, new: RoleModel) -> tuple[str, ...]:
    return tuple(name for name in _changed(old.declared_settings(), new.declared_settings()) if name in new.masked)


def _of_the_storage(old: RoleModel, new: RoleModel) -> Iterator[str]:
    for name, before in old.local_resources.items():
        after = new.local_resources.get(name)
        if after and after.size_in_mb < before.size_in_mb:
            told = f"from {before.size_in_mb} to {after.size_in_mb} MB"
            yield f'the local resource "{name}" of the role "{old.name}" can\'t shrink {told}'


def _of_the_definition(old: RoleModel, new: RoleModel) -> tuple[str, ...]:
    before, after = _fixed(old), _fixed(new)
    return tuple(each.name for each in fields(before) if getattr(before, each.name) != getattr(after, each.name))


def _is_told_kinds(old: ServiceModel, new: ServiceModel, role: RoleModel) -> bool:
    """Whether the role has a class that goes by the service's kinds of job, as a front end does, and they change.

    Its hooks, too: both are told by variables when it starts.
    """
    changed = _kinds(old) != _kinds(new) or old.hooks != new.hooks
    return bool(role.entry_point) and role.entry_point != CONFIGURED and changed


def _kinds(model: ServiceModel) -> list[WorkerDeclaration]:
    """What clients see of the declared kinds."""
    workers = [role.worker for role in model.roles.values() if role.worker]
    return [
        WorkerDeclaration(kind=each.kind, title=each.title, accepts=each.accepts, parameters=each.parameters)
        for each in workers
    ]


def _fixed(role: RoleModel) -> RoleModel:
    """The role without all that may change while it runs."""
    nothing: Mapping[str, str] = frozen({})
    certificates = {name: replace(each, thumbprint="") for name, each in role.certificates.items()}
    return replace(
        role,
        settings=nothing,
        masked=nothing,
        undeclared=frozenset(),
        instances=1,
        certificates=frozen(certificates),
    )


def _thumbprints(role: RoleModel) -> Mapping[str, str]:
    return {name: each.thumbprint for name, each in role.certificates.items()}
