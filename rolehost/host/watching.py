"""The files that a running service was started from: another content is a change of the service.

They are looked at by their content: a mounted ConfigMap is changed by a symbolic link that is swapped far above the
file, editors write a new file and rename it, and a time stamp says nothing of either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path

from rolehost import clock

LOOK_SECONDS = 0.5


class WatchedFiles:
    """Tells when the files have another content.

    Args:
        paths: the files.
        seconds: between two looks.
    """

    def __init__(self, paths: Sequence[Path], seconds: float = LOOK_SECONDS) -> None:
        self._paths = tuple(paths)
        self._seconds = seconds
        self._known: tuple[bytes, ...] | None = None

    async def run(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Call `changed` for each other content, once two looks in a row have seen the same: nobody writes any more.

        The first content counts, too: the files may have changed since they were read.

        Args:
            changed: what is to be done.
        """
        before: tuple[bytes, ...] | None = None
        while self._paths:
            await clock.sleep(self._seconds)
            now = await self._look()
            if now in {None, self._known}:
                before = None
            elif now == before:
                self._known, before = now, None
                await changed()
            else:
                before = now

    async def _look(self) -> tuple[bytes, ...] | None:
        """The contents' hashes; None while a file is away, as in the moment of a rename."""
        return await asyncio.to_thread(_hashes, self._paths)


def _hashes(paths: Sequence[Path]) -> tuple[bytes, ...] | None:
    try:
        return tuple(sha256(path.read_bytes()).digest() for path in paths)
    except OSError:
        return None
