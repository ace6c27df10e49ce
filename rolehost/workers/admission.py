"""Nothing is claimed while the disk or the process has no room for it; claiming goes on by itself once there is."""

from __future__ import annotations

import os
import resource
import shutil
from contextlib import suppress
from pathlib import Path

from rolehost import clock
from rolehost.telemetry import emit

LOOK_EVERY = 2.0
DESCRIPTORS = 16
"""What a job takes of them at most, for a moment: its files, its application's pipes, its share of the database."""
_MEGABYTE = 1 << 20
_PLENTY = 1 << 62
_OPEN = Path("/proc/self/fd")


class Admission:
    """Holds a worker back below a floor of free disk space, and of free file descriptors.

    Args:
        root: where scratch directories are made.
        floor: bytes that have to be free before another message is asked for.
    """

    def __init__(self, root: Path, floor: int) -> None:
        self._root = root
        self._floor = floor
        self._paused = False

    async def granted(self) -> None:
        """Return once there is room."""
        while why := self._lack():
            if not self._paused:
                self._paused = True
                emit("worker.paused", why=why)
            await clock.sleep(LOOK_EVERY)
        if self._paused:
            self._paused = False
            emit("worker.resumed")

    def _lack(self) -> str:
        """What there is too little of, in a sentence; empty if nothing."""
        if (free := _free(self._root)) < self._floor:
            has, needs = free / _MEGABYTE, self._floor / _MEGABYTE
            return f"the disk of {self._root} has {has:.0f} MB free, and {needs:.0f} MB are needed"
        if (left := _descriptors_left()) < DESCRIPTORS:
            return f"the process may open {left} more files, and {DESCRIPTORS} are needed"
        return ""


def _free(root: Path) -> int:
    try:
        return shutil.disk_usage(root).free
    except OSError:  # it is made again by the next attempt, or says so
        return _PLENTY


def _descriptors_left() -> int:
    """How many files this process may still open; plenty where the system does not tell."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return _PLENTY
    with suppress(OSError):
        if taken := _OPEN.stat().st_size:  # Linux 6.2 and later count them there: nothing has to be opened
            return max(0, most - taken)
    try:
        return max(0, most - len(os.listdir(_OPEN)) + 1)  # noqa: PTH208 - names are enough; the listing takes one itself
    except FileNotFoundError:
        return _PLENTY
    except OSError:
        return 0
