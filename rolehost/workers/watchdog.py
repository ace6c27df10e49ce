"""Looks after a console application while it runs: its memory, and whether it gives any sign of life."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rolehost import clock
from rolehost.jobs.job import End
from rolehost.processes import Child, Usage

LOOK_EVERY = 1.0
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a console application may take; None: as much as there is.

    Args:
        memory: bytes that its whole tree may hold resident; looked at about every second.
        cpu_seconds: processor time of each of its processes.
        file_bytes: the size of a file that it writes.
        open_files: descriptors of each of its processes.
        processes: of its whole tree. Where a control group can be made the kernel refuses more, and counts threads;
            elsewhere an application that has more when it is looked at, about every second, is killed.
    """

    memory: int | None = None
    cpu_seconds: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None
    processes: int | None = None

    @property
    def prefix(self) -> list[str]:
        """The beginning of an argv that takes on the limits which the system holds, and then becomes its rest."""
        wanted = {"cpu": self.cpu_seconds, "fsize": self.file_bytes, "nofile": self.open_files}
        options = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
        return ["prlimit", *options, "--"] if options else []


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why an application was stopped."""

    end: End
    why: str


class Watchdog:
    """Waits until an application has to be stopped.

    Args:
        child: the application.
        result: what it is to make; its growth is a sign of life.
        memory: bytes that its tree may take.
        processes: how many its tree may have.
        stall: seconds without output, processor time and growth of the result, after which it has stalled.
    """

    def __init__(
        self, child: Child, result: Path | None, *, memory: int | None, stall: float, processes: int | None = None
    ) -> None:
        self._child = child
        self._result = result
        self._memory = memory
        self._processes = processes
        self._stall = stall

    async def bite(self) -> Verdict:
        """Return once it is too large, or has stalled."""
        signs: tuple[object, ...] = ()
        since = clock.monotonic()
        while True:
            await clock.sleep(min(LOOK_EVERY, self._stall / 4))
            usage = await asyncio.to_thread(self._child.usage)
            if self._memory is not None and usage.memory > self._memory:
                took, limit = usage.memory / _MEGABYTE, self._memory / _MEGABYTE
                return Verdict(End.OOM, f"it took {took:.1f} MB of memory, and its limit is {limit:.1f} MB")
            if self._processes is not None and usage.processes > self._processes:
                why = f"it had {usage.processes} processes, and its limit is {self._processes}"
                return Verdict(End.KILLED, why)
            now = self._signs(usage)
            if now != signs:
                signs, since = now, clock.monotonic()
            elif clock.monotonic() - since >= self._stall:
                why = f"it gave no sign of life for {self._stall:g} s: no output, no processor time, no growing result"
                return Verdict(End.STALLED, why)

    def _signs(self, usage: Usage) -> tuple[object, ...]:
        size = 0
        if self._result is not None:
            with suppress(OSError):
                size = self._result.lstat().st_size
        return self._child.stdout.total, self._child.stderr.total, usage.worked, size
