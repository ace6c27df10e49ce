"""With which rights startup tasks and guest programs run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost.errors import StartupError
from rolehost.host.instance.approot import APPROOT, role_root
from rolehost.processes import ChildIdentity, unprivileged_identity
from rolehost.service_model import ExecutionContext
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.host.instance.plan import InstancePlan

GROUP = 65530
"""Whom the instance's resources are opened for: nobody's group, and not that of console applications."""


async def identity_of(plan: InstancePlan, context: ExecutionContext, what: str) -> ChildIdentity | None:
    """Who a startup task or a guest program runs as; the instance's directories are prepared.

    Limited: where the host is root, an unprivileged user (as console applications), who may write to the instance's
    RoleTemp and local resources; otherwise the host's user. Elevated: the host's rights, which have to be root's.

    Args:
        plan: the instance.
        context: what the definition asks for.
        what: who asks, for the error.

    Raises:
        StartupError: elevated rights are asked for, and the host has none.
    """
    if context is ExecutionContext.ELEVATED:
        if os.geteuid() == 0:
            return None
        told = f"{what} asks for elevated rights, and this host runs as uid {os.geteuid()}"
        raise StartupError(f'{told}: run the host as root, or declare it as executionContext="limited"')
    reach = (plan.model.directory, role_root(plan) / APPROOT, plan.data.temp(plan.instance_id))
    identity = await unprivileged_identity(["stat", "--", *(f"{each}/." for each in reach)], Path("/"))
    return identity if identity.uid is None else _shared_with(plan, identity)


def _shared_with(plan: InstancePlan, identity: ChildIdentity) -> ChildIdentity:
    # A group of its own: a console application, which is the same user, still can't write to the resources.
    try:
        plan.data.share(plan.instance_id, plan.storages.values(), GROUP)
    except OSError as error:
        emit("resources.not_shared", instance=plan.instance_id, group=GROUP, reason=str(error))
        return identity
    return replace(identity, gid=GROUP)
