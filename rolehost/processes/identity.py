"""Who a child runs as: a chain of exec calls, so that starting one never forks this process's memory."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rolehost.errors import ProgramNotFoundError

# What the chain's programs exit with when their own exec fails (the shell's convention).
_EXEC_FAILED = frozenset({126, 127})
_SAYS = ("setpriv: ", "timeout: failed to run command ")
# The namespace's init: it waits for the application, passes signals on, and tells an end by a signal as 128 and more.
_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
_INIT = ("timeout", "--foreground", "0")
_BY_SIGNAL = range(129, 160)


@dataclass(frozen=True, slots=True)
class ChildIdentity:
    """What a child is allowed to be.

    Args:
        uid: the user, real and effective; None keeps ours.
        gid: the group; None keeps ours. Supplementary groups are dropped whenever a user or a group is given.
        drop_capabilities: give up every capability for good, also as root.
        no_new_privs: set-uid programs and file capabilities have no effect from here on.
        own_pids: it gets a PID namespace: all that it starts dies with it, and it sees no other process. For root,
            where the machine lets it; a start takes some 5 ms more, and exit codes from 129 to 159 count as signals.
    """

    uid: int | None = None
    gid: int | None = None
    drop_capabilities: bool = False
    no_new_privs: bool = True
    own_pids: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing."""
        asks = (self.drop_capabilities, self.no_new_privs, self.own_pids)
        return self.uid is None and self.gid is None and not any(asks)


@functools.cache
def setpriv() -> str | None:
    """The path of a setpriv that can do what we need (util-linux), or None."""
    path = shutil.which("setpriv")
    if path is None:
        return None
    # Busybox has a small setpriv without the parent-death signal.
    answer = subprocess.run([path, "--help"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return path if "--pdeathsig" in answer.stdout + answer.stderr else None


def chain(argv: Sequence[str], identity: ChildIdentity | None, *, die_with_us: bool) -> list[str]:
    """The argv that turns into the asked identity and then into `argv`.

    Without a usable setpriv a child that only had to die with us starts as it is.

    Raises:
        ProgramNotFoundError: an identity is asked for and there is no setpriv: it is never silently left out.
    """
    dies = ["--pdeathsig", "KILL"]
    options = [*(dies if die_with_us else []), *_options(identity)]
    if not options and not (identity and identity.own_pids):
        return list(argv)
    path = setpriv()
    if path is not None and identity is not None and identity.own_pids:
        # Another identity forgets the signal of its parent's death: it is asked for again.
        return [path, *dies, "--", *_NAMESPACE, path, *dies, *_options(identity), "--", *_INIT, *argv]
    if path is not None:
        return [path, *options, "--", *argv]
    if identity is None or identity.is_plain:
        return list(argv)
    raise ProgramNotFoundError("setpriv (util-linux) is needed to run a child with another identity, and is not here.")


def _options(identity: ChildIdentity | None) -> list[str]:
    if identity is None:
        return []
    options = []
    if identity.no_new_privs:
        options += ["--no-new-privs"]
    if identity.uid is not None:
        options += [f"--reuid={identity.uid}"]
    if identity.gid is not None:
        options += [f"--regid={identity.gid}"]
    if identity.uid is not None or identity.gid is not None:
        options += ["--clear-groups"]
    if identity.drop_capabilities:
        options += ["--bounding-set=-all", "--inh-caps=-all"]
    return options


def require_program(program: str, env: Mapping[str, str], cwd: Path) -> None:
    """Find out before the start what the chain could only say with an exit code.

    Raises:
        ProgramNotFoundError: there is no such program, it may not be executed, or there is no such directory.
    """
    if not cwd.is_dir():
        raise ProgramNotFoundError(f"{program} can't start: its working directory {cwd} does not exist.")
    if "/" not in program:
        if shutil.which(program, path=env.get("PATH", os.defpath)) is None:
            raise ProgramNotFoundError(f"{program} is not found on the PATH {env.get('PATH', os.defpath)}.")
        return
    path = cwd / program
    if not path.is_file():
        raise ProgramNotFoundError(f"{path} does not exist, or is no file.")
    if not os.access(path, os.X_OK):
        raise ProgramNotFoundError(f"{path} is not executable.")


def exec_failure(code: int | None, *, printed: int, stderr: str) -> str | None:
    """Why the program never started, where the chain said so; None where the exit is the program's own.

    Args:
        code: the exit code of the chain.
        printed: bytes seen on stdout; setpriv prints none.
        stderr: the beginning of what was seen on stderr.
    """
    if code not in _EXEC_FAILED or printed or not stderr.startswith(_SAYS):
        return None
    return stderr.splitlines()[0].partition(": ")[2]


def ended_by(code: int | None, identity: ChildIdentity | None) -> tuple[int | None, int | None]:
    """An exit code, and the signal that it stands for where the child was not ours to wait for."""
    if code is not None and identity is not None and identity.own_pids and code in _BY_SIGNAL:
        return None, code - _BY_SIGNAL.start + 1
    return code, None
