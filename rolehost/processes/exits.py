"""How a child ended: noticed without taking its status, so that its pid stays ours until its tree is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child's main process ended.

    Args:
        code: its exit code; None if a signal ended it, or if nobody knows (someone else in this process took its
            status, or the warm server that had started it died).
        signal: the signal's number; None if it exited.
        exec_error: one sentence, where the program never started although it was there (its interpreter is missing, or
            the identity may not execute it): then `code` is setpriv's. Known only where stderr is captured.
    """

    code: int | None
    signal: int | None = None
    exec_error: str | None = None


class ExitWatch:
    """Sets `ended` once the process has ended; `status` then takes its status. By pidfd, else by a thread.

    Args:
        pid: the process.
        ours: whether it is our own child; another's can be watched by pidfd only.

    Raises:
        OSError: it isn't ours, and the system gives no pidfd.
    """

    def __init__(self, pid: int, *, ours: bool = True) -> None:
        self._pid = pid
        self._status: int | None = None
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            self._fd = os.pidfd_open(pid)
        except (AttributeError, OSError):  # no Linux, an old kernel, a filter, or no descriptor left
            if not ours:
                raise
            self._fd = -1
            threading.Thread(target=self._wait, name=f"exit-of-{pid}", daemon=True).start()
        else:
            self._loop.add_reader(self._fd, self._notice)

    async def status(self) -> tuple[int | None, int | None]:
        """Reap the process: its exit code and its signal, both None if someone else took its status."""
        try:
            if self._status is None:
                self._status = os.waitpid(self._pid, 0)[1]  # noqa: ASYNC222 - it has ended: there is nothing to wait for
        except ChildProcessError:
            return None, None
        code = os.waitstatus_to_exitcode(self._status)
        return (code, None) if code >= 0 else (None, -code)

    def _notice(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self.ended.set()

    def _wait(self) -> None:
        try:
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
            else:  # macOS: there is no looking without taking
                self._status = os.waitpid(self._pid, 0)[1]
        except ChildProcessError:
            pass  # someone else took the status: it has ended all the same
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self.ended.set)
