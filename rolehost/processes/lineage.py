"""Who ends with whom: orphans come to us, and we end with our parent. Linux only; elsewhere these do nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

_LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None, use_errno=True) if _LINUX else None


def become_subreaper() -> None:
    """Take in the orphans of our descendants: a grandchild that left its parent and its session is still ours."""
    if _libc is not None and _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def is_subreaper() -> bool:
    """Whether orphans of our descendants come to us: we asked for it, or we are a container's PID 1."""
    if os.getpid() == 1:
        return True
    if _libc is None:
        return False
    flag = ctypes.c_int()
    return _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0) == 0 and flag.value != 0


def die_with_parent(expected_parent_pid: int) -> None:
    """Have the kernel kill this process once its parent is gone; exit at once if it is gone already.

    The signal comes when the *thread* that started us ends: parents start children on their loop's main thread.

    Args:
        expected_parent_pid: the parent's pid, as the parent itself told it: after its death `getppid` names another.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != expected_parent_pid:
        os._exit(1)  # as abrupt as the signal that came too late
