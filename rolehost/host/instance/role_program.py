"""What runs as a role: the Python role process, or a guest program with no code of ours in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rolehost.host.instance.approot import APPROOT, role_root
from rolehost.host.instance.commands import argv_of
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.instance.rights import identity_of
from rolehost.processes import ChildIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleProgram:
    """How to start a role.

    Args:
        argv: the program and its arguments.
        env: its environment.
        cwd: where it runs.
        identity: who it runs as; None: as we do.
        is_guest: it is no Python role: ready when it starts, and it owes no sign of life.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    identity: ChildIdentity | None = None
    is_guest: bool = False


async def role_program(plan: InstancePlan, variables: Mapping[str, str]) -> RoleProgram:
    """What runs as the role of this instance.

    Args:
        plan: the instance; its directories are prepared.
        variables: the role's environment.

    Raises:
        RoleHostError: it asks for rights that the host doesn't have, or is no program that runs here.
    """
    if plan.role.program:
        return await _guest(plan, variables)
    # Unbuffered, so that what a role prints is seen at once, although it goes through a pipe.
    argv = [sys.executable, "-u", "-P", "-m", "rolehost.host.role.role_process", plan.role.entry_point]
    argv += ["--path", str(plan.model.directory), "--parent", str(os.getpid())]
    return RoleProgram(argv=argv, env=variables, cwd=plan.model.directory)


async def _guest(plan: InstancePlan, variables: Mapping[str, str]) -> RoleProgram:
    approot = role_root(plan) / APPROOT
    argv = argv_of(plan.role.program, approot, variables)
    identity = await identity_of(plan, plan.role.execution_context, f'the role "{plan.role.name}"')
    if identity and identity.uid is not None:
        variables = {**variables, "HOME": str(plan.data.temp(plan.instance_id))}  # root's is closed to it
    return RoleProgram(argv=argv, env=variables, cwd=approot, identity=identity, is_guest=True)
