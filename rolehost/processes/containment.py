"""Brings a child's tree into a control group of its own.

A process takes some 10 ms to move, without using the processor: a child that says how many processes it may have waits
for it, stopped; any other is left alone in its first moments, in which ordinary jobs are over, and moved while it runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from rolehost.processes import procfs, tree
from rolehost.processes.cgroups import Cgroup, Cgroups
from rolehost.telemetry import emit

FIRST_MOMENTS = 0.2
MOST_PROCESSES = 4096
"""Of a child that says nothing: processes and threads together; what no program needs, and a machine bears."""
_ROUNDS = 50


class Containment:
    """One child's group, from its start to its end.

    Args:
        root: the child's tree.
        groups: makes the group.
        most: processes and threads that it may have; None: `MOST_PROCESSES`.
    """

    def __init__(self, root: tree.Root, groups: Cgroups, most: int | None) -> None:
        self._root = root
        self._groups = groups
        self._most = most
        self._group: Cgroup | None = None
        self._waits = most is not None
        if self._waits:
            _signal(root.pid, signal.SIGSTOP)
        self._work = asyncio.create_task(self._enrol())

    async def over(self) -> None:
        """Enrol no more: to be awaited before the child is reaped, for then its pid may be another's."""
        if self._group is None:
            self._work.cancel()
        await asyncio.wait([self._work])

    def close(self) -> None:
        """Remove the group; the tree is gone."""
        if self._group is not None:
            self._groups.give_back(self._group)

    async def _enrol(self) -> None:
        if not self._waits:
            await asyncio.sleep(FIRST_MOMENTS)
        try:
            self._group = self._groups.new()
            self._group.limit(self._most or MOST_PROCESSES)
            self._root.group = self._group
            await asyncio.to_thread(self._move, self._group)
        except OSError as error:
            seen = procfs.process(self._root.pid)
            if seen is not None and not seen.zombie and self._groups.usable:  # else it was over before
                self._groups.usable = False
                emit("child.not_contained", marker=self._root.marker, why=str(error))
        finally:
            if self._waits:
                _signal(self._root.pid, signal.SIGCONT)

    def _move(self, group: Cgroup) -> None:
        """The child, then what it has started before it was in; all of that stands still meanwhile."""
        group.join(self._root.pid)
        for _ in range(_ROUNDS):
            outside = tree.offspring(self._root) - group.pids()
            if not outside:
                return
            _signal(self._root.pid, signal.SIGSTOP)
            try:
                for pid in tree.offspring(self._root) - group.pids():
                    with suppress(ProcessLookupError):
                        group.join(pid)
            finally:
                _signal(self._root.pid, signal.SIGCONT)


def _signal(leader: int, number: int) -> None:
    """Signal a child's process group in one step, or the child alone while it has none yet."""
    with suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(leader, number)
        except ProcessLookupError:
            os.kill(leader, number)
