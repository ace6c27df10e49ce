"""Which instance gets the next connection: the ready one with the fewest, in turn among equals."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backend:
    """An instance's end of a public port.

    Args:
        instance: its id.
        address: (address, port).
        ready: it gets new connections.
    """

    instance: str
    address: tuple[str, int]
    ready: bool = True


class Rotation:
    """The backends of a public port, and how many connections each has."""

    def __init__(self) -> None:
        self._backends: tuple[Backend, ...] = ()
        self._open: Counter[str] = Counter()
        self._turn = ""
        self._some_ready = asyncio.Event()

    @property
    def backends(self) -> tuple[Backend, ...]:
        """As they were set."""
        return self._backends

    def set(self, backends: Iterable[Backend]) -> None:
        """Take these in place of those before; connections stay where they are."""
        self._backends = tuple(sorted(backends, key=lambda each: each.instance))
        if any(each.ready for each in self._backends):
            self._some_ready.set()
        else:
            self._some_ready.clear()

    async def some_ready(self) -> None:
        """Return once a backend is ready."""
        await self._some_ready.wait()

    def enter(self, but: Collection[Backend] = ()) -> Backend | None:
        """Choose a backend and count a connection to it; None if none is ready.

        Args:
            but: those that were tried in vain.
        """
        ready = [each for each in self._backends if each.ready and each not in but]
        if not ready:
            return None
        after = [each for each in ready if each.instance > self._turn]
        chosen = min(after + ready, key=lambda each: self._open[each.instance])
        self._turn = chosen.instance
        self._open[chosen.instance] += 1
        return chosen

    def leave(self, backend: Backend) -> None:
        """One of its connections has ended."""
        self._open[backend.instance] -= 1
        if not self._open[backend.instance]:
            del self._open[backend.instance]
