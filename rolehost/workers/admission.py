"""Nothing is claimed while the disk has no room for it; claiming goes on by itself once there is."""

from __future__ import annotations

import shutil
from pathlib import Path

from rolehost import clock
from rolehost.telemetry import emit

LOOK_EVERY = 2.0
_MEGABYTE = 1 << 20


class Admission:
    """Holds a worker back below a floor of free disk space.

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
        while (free := _free(self._root)) < self._floor:
            if not self._paused:
                self._paused = True
                has, needs = free / _MEGABYTE, self._floor / _MEGABYTE
                emit(
                    "worker.paused",
                    why=f"the disk of {self._root} has {has:.0f} MB free, and {needs:.0f} MB are needed",
                )
            await clock.sleep(LOOK_EVERY)
        if self._paused:
            self._paused = False
            emit("worker.resumed")


def _free(root: Path) -> int:
    try:
        return shutil.disk_usage(root).free
    except OSError:  # it is made again by the next attempt, or says so
        return 1 << 62
