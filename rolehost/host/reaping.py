"""Orphans that come to us, as a subreaper or as PID 1, and end: somebody has to take note, or they stay as zombies."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from rolehost.processes import procfs, tree


def reap_orphans() -> None:
    """From now on, reap each ended child that is nobody's; for processes that start children as `Child` only."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _reap)
    _reap()


def _reap() -> None:
    for pid in procfs.children():
        each = None if pid in tree.live else procfs.process(pid)
        if each is not None and each.zombie:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
