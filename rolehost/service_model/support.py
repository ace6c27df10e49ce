"""What the model can say and the host can't do: refused or told, never passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rolehost.service_model.model import ExecutionContext, RoleModel, ServiceModel
from rolehost.service_model.problems import Keys


@dataclass(frozen=True, slots=True)
class NotRun:
    """A part of a valid service that isn't run.

    Args:
        keys: where it is, as in a `service.toml`.
        warning: the rest runs without it.
    """

    code: str
    keys: Keys
    sentence: str
    warning: bool = True


def not_run(model: ServiceModel) -> list[NotRun]:
    """What of the service isn't run here; errors are what keeps it from running at all.

    Args:
        model: a valid service.
    """
    return [
        found
        for role in model.roles.values()
        for found in (*_entry_point(role), *_rights(role), *_contents(role, model))
    ]


def _entry_point(role: RoleModel) -> Iterator[NotRun]:
    if not role.entry_point and not role.program:
        told = f'the role "{role.name}" has no Python entry point: nothing can be started for it'
        yield NotRun("N10", ("roles", role.name), told, warning=False)


def _rights(role: RoleModel) -> Iterator[NotRun]:
    if role.entry_point and role.execution_context is ExecutionContext.ELEVATED:
        told = f'the role "{role.name}" asks for elevated rights: it has those of the host, no more and no less'
        yield NotRun("N10", ("roles", role.name, "execution_context"), told)
    for name, certificate in role.certificates.items():
        if certificate.permission_level == "elevated":
            told = f'the key of the certificate "{name}" is not kept from the role "{role.name}" where that is limited'
            yield NotRun("N10", ("roles", role.name, "certificates", name, "permission_level"), told)


def _contents(role: RoleModel, model: ServiceModel) -> Iterator[NotRun]:
    for destination, source in role.contents.items():
        if not (model.directory / source).is_dir():
            told = f'the contents "{destination}" of the role "{role.name}" are missing: there is no directory {source}'
            yield NotRun("N10", ("roles", role.name, "contents", destination), told)
