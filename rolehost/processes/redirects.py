"""Files in the place of a child's standard streams, opened so that nobody can have another file put there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rolehost.processes.identity import ChildIdentity


@dataclass(frozen=True, slots=True)
class Redirects:
    """What a child reads as its stdin, and where its stdout goes.

    The paths lie in a directory where whoever the child runs as may write, and others run as the same user: links are
    not followed, for we may be allowed more than they are.

    Args:
        stdin: a regular file of the child's user, opened for reading alone; None: nothing.
        stdout: a file that does not exist yet, and will be the child's user's; None: it is captured.
    """

    stdin: Path | None = None
    stdout: Path | None = None

    @contextmanager
    def opened(self, identity: ChildIdentity | None) -> Iterator[tuple[int, int | None]]:
        """The descriptors, or what `Popen` takes in their place; they are closed here at the end.

        Args:
            identity: who the child runs as.

        Raises:
            OSError: the input is no such file, the output's name is taken, or the machine has no room for it.
        """
        with ExitStack() as closing:
            stdin, stdout = subprocess.DEVNULL, None
            if self.stdin is not None:
                stdin = _opened(self.stdin, os.O_RDONLY | os.O_NONBLOCK, closing)  # a FIFO would have us wait
                _check(stdin, self.stdin, identity)
                os.set_blocking(stdin, True)
            if self.stdout is not None:
                stdout = _opened(self.stdout, os.O_WRONLY | os.O_CREAT | os.O_EXCL, closing)
                if identity is not None and identity.uid is not None:
                    os.fchown(stdout, identity.uid, identity.gid if identity.gid is not None else -1)
            yield stdin, stdout


def _opened(path: Path, flags: int, closing: ExitStack) -> int:
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    closing.callback(_close, fd)
    return fd


def _close(fd: int) -> None:
    with suppress(OSError):  # nothing was written by us, and the child that has it now must not be lost
        os.close(fd)


def _check(fd: int, path: Path, identity: ChildIdentity | None) -> None:
    """Refuse what the child's user might not have been able to open: a hard link's file has another owner."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "It is no regular file", str(path))
    if identity is not None and identity.uid is not None and found.st_uid != identity.uid:
        raise PermissionError(errno.EPERM, "It is another user's", str(path))
