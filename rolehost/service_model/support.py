"""What the model can say and this release's host doesn't do yet: refused or told, never passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator

from rolehost.service_model.model import ExecutionContext, RoleModel, ServiceModel
from rolehost.service_model.problems import Problem

_CODE = "N10"


def not_run(model: ServiceModel, file: str) -> list[Problem]:
    """What of the service isn't run by this release; errors are what keeps it from running at all.

    Args:
        model: a valid service.
        file: how messages call its definition.
    """
    found = []
    for role in model.roles.values():
        found += [Problem(_CODE, told, file) for told in _refused(role)]
        found += [Problem(_CODE, told, file, warning=True) for told in _left_out(role)]
    return found


def _refused(role: RoleModel) -> Iterator[str]:
    if role.program:
        yield f'the role "{role.name}" is a program ({role.program}), which is not run by this release'
    elif not role.entry_point:
        yield f'the role "{role.name}" has no Python entry point: nothing can be started for it'
    for each in role.endpoints.values():
        if each.protocol == "udp":
            yield f'the udp endpoint "{each.name}" of the role "{role.name}" is not served by this release'


def _left_out(role: RoleModel) -> Iterator[str]:
    if role.execution_context is ExecutionContext.ELEVATED:
        yield f'the role "{role.name}" asks for elevated rights: it gets those of the host'
    of = f'of the role "{role.name}"'
    for task in role.startup_tasks:
        yield f"the startup task {task.command_line!r} {of} is not run by this release"
    for name in (*role.internal_endpoints, *role.instance_input_endpoints):
        yield f'the endpoint "{name}" {of} is not opened by this release'
    for each in role.endpoints.values():
        if each.local_port not in {None, each.port}:
            yield f'the endpoint "{each.name}" {of} is bound to its public port {each.port} by this release'
    for name in role.certificates:
        yield f'the certificate "{name}" {of} is not handed to it by this release'
    for name in role.instance_values:
        yield f'the variable "{name}" {of} takes its value from the role environment: it is not set by this release'
