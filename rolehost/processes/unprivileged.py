"""Which identity console applications get where the host is root."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rolehost.errors import ProgramNotFoundError, ServiceModelError
from rolehost.processes.child import Child
from rolehost.processes.identity import ChildIdentity, setpriv
from rolehost.telemetry import emit

USER_VARIABLE = "ROLEHOST_CHILD_USER"

_NOBODY = 65534
_PROBE_SECONDS = 20.0


async def unprivileged_identity(probe_argv: Sequence[str], cwd: Path) -> ChildIdentity:
    """The least privileged identity under which `probe_argv` really runs; what it costs is the caller's to remember.

    As root: uid and gid 65534, or the user named by ROLEHOST_CHILD_USER (a name or a uid); where that user can't run
    it, root's uid without any capability, told by the event `child.runs_as_root`. Otherwise our own user.

    Args:
        probe_argv: a quick command that ends with 0, as `[python, "-c", ""]`.
        cwd: where it runs; the user must be able to enter it.

    Raises:
        ServiceModelError: ROLEHOST_CHILD_USER names no user.
    """
    if setpriv() is None:
        if os.getuid() == 0:
            emit("child.runs_as_root", reason="setpriv (util-linux) is not installed")
        return ChildIdentity(no_new_privs=False)
    if os.getuid() != 0:
        return ChildIdentity()
    user = _user(os.environ.get(USER_VARIABLE, ""))
    reason = await _refusal(probe_argv, cwd, user)
    if reason is None:
        return user
    emit("child.runs_as_root", reason=f"uid {user.uid} can't run {probe_argv[0]}: {reason}")
    for identity in (ChildIdentity(drop_capabilities=True), ChildIdentity()):
        if await _refusal(probe_argv, cwd, identity) is None:
            return identity
    return ChildIdentity(no_new_privs=False)


async def with_own_pids(identity: ChildIdentity, probe_argv: Sequence[str], cwd: Path) -> ChildIdentity:
    """The identity with a PID namespace, where the machine lets us; else as it is, told by `child.shares_pids`.

    Args:
        identity: who a child is otherwise.
        probe_argv: a quick command that ends with 0.
        cwd: where it runs.
    """
    wanted = replace(identity, own_pids=True)
    reason = "it takes root" if os.geteuid() else await _refusal(probe_argv, cwd, wanted)
    if reason is None:
        return wanted
    emit("child.shares_pids", reason=reason)
    return identity


def _user(wanted: str) -> ChildIdentity:
    if not wanted:
        return ChildIdentity(_NOBODY, _NOBODY)
    try:
        entry = pwd.getpwuid(int(wanted)) if wanted.isdigit() else pwd.getpwnam(wanted)
    except KeyError:
        if wanted.isdigit():
            return ChildIdentity(int(wanted), int(wanted))  # a container's user needs no entry
        raise ServiceModelError([f"{USER_VARIABLE} names the user {wanted!r}, who does not exist."]) from None
    return ChildIdentity(entry.pw_uid, entry.pw_gid)


async def _refusal(argv: Sequence[str], cwd: Path, identity: ChildIdentity) -> str | None:
    env = {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        child = await Child.spawn(argv, env=env, cwd=cwd, marker=f"probe/{os.getpid()}", identity=identity)
    except (ProgramNotFoundError, OSError) as problem:
        return str(problem)
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            end = await child.wait()
    except TimeoutError:
        return f"it took longer than {_PROBE_SECONDS:g} s"
    finally:
        await child.stop(grace=0)
    if end.code == 0:
        return None
    said = child.stderr.text(500).strip().splitlines()
    return end.exec_error or (said[-1] if said else f"it ended with {end.code or end.signal}")
