"""What a directory takes on the disk: measured a slice at a time, so that large trees cost no more than small ones."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from rolehost import clock

_SLICE_SECONDS = 0.01
_REST = 9  # pauses for one slice: no tree takes more than a tenth of a processor
_BLOCK = 512  # the unit of st_blocks, whatever the file system's is


class _Walk:
    """A walk through a directory that can be broken off and taken up again."""

    def __init__(self, root: Path) -> None:
        self.sizes: Counter[str] = Counter()
        self._directories = [("", str(root))]
        self._entries: list[tuple[str, str]] = []
        self._linked: set[tuple[int, int]] = set()
        self._add("", _facts(str(root)))

    def advance(self) -> bool:
        """Walk on for one slice; whether all has been seen."""
        until = time.monotonic() + _SLICE_SECONDS
        while (self._entries or self._directories) and time.monotonic() < until:
            if self._entries:
                self._look(*self._entries.pop())
            else:
                self._open(*self._directories.pop())
        return not (self._entries or self._directories)

    def _open(self, top: str, directory: str) -> None:
        with suppress(OSError):  # it went meanwhile, or it is closed to us
            names = os.listdir(directory)  # noqa: PTH208 - a Path for each entry costs more than looking at it
            self._entries = [(top or name, f"{directory}/{name}") for name in names]

    def _look(self, top: str, path: str) -> None:
        facts = _facts(path)
        self._add(top, facts)
        if facts is not None and stat.S_ISDIR(facts.st_mode):
            self._directories.append((top, path))

    def _add(self, top: str, facts: os.stat_result | None) -> None:
        if facts is None:
            return
        if facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode):
            file = (facts.st_dev, facts.st_ino)
            if file in self._linked:
                return
            self._linked.add(file)
        self.sizes[top] += facts.st_blocks * _BLOCK


def _facts(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


async def disk_usage(directory: Path) -> Counter[str]:
    """How many bytes are allocated below a directory, by the name of its entry that they are in.

    Holes of files take nothing, a file with several names counts once, links are not followed, and what is closed to
    us is not seen. The directory's own bytes are under the empty name; `total()` has all.
    """
    walk = _Walk(directory)
    while True:
        began = time.monotonic()
        if await asyncio.to_thread(walk.advance):
            return walk.sizes
        await clock.sleep(_REST * (time.monotonic() - began))
