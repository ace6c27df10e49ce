"""The spool: files for uploads on their way, each process's in a folder of its own, removed in every case."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost.telemetry import emit

LOCK = ".lock"


class Spool:
    """A process's folder in the spool.

    The folder belongs to whoever holds the lock on the file beside it: the system drops the lock when the process ends,
    however it ends, and the next process removes the folder.

    Args:
        root: the spool of all processes, on the file system of the blobs, so that an upload is moved and not copied.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = root
        self._remove_leftovers()
        self._lock, self._lock_file = self._take_lock()
        self._folder = self._lock_file.with_suffix("")
        self._folder.mkdir(mode=0o700)

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A folder for one request, gone with all that is in it when the request ends."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            yield folder
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def close(self) -> None:
        """Remove the process's folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock_file.unlink(missing_ok=True)
        os.close(self._lock)

    def _take_lock(self) -> tuple[int, Path]:
        while True:
            lock, name = tempfile.mkstemp(dir=self._root, suffix=LOCK)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return lock, Path(name)
            os.close(lock)  # another process took it for a leftover before it was locked

    def _remove_leftovers(self) -> None:
        for lock_file in self._root.glob(f"*{LOCK}"):
            try:
                lock = os.open(lock_file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock_file.with_suffix(""), ignore_errors=True)
                lock_file.unlink(missing_ok=True)
                emit("spool.leftovers_removed", folder=lock_file.stem)
            except BlockingIOError:
                continue
            finally:
                os.close(lock)
