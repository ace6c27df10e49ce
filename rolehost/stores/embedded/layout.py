"""Where the engine keeps what in the data directory, and who may read it."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
PASSABLE_DIRECTORY = 0o711  # console applications of another user reach their scratch through it, and list nothing


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below the data directory.

    Args:
        root: the data directory.
    """

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file; `-wal` and `-shm` beside it get its mode."""
        return self.root / "store.db"

    @property
    def blobs(self) -> Path:
        """The finished blobs."""
        return self.root / "blobs"

    @property
    def unfinished(self) -> Path:
        """Blobs on their way, on the same file system as the finished ones."""
        return self.blobs / ".tmp"

    @property
    def bells(self) -> Path:
        """The FIFOs of waiting processes."""
        return self.root / "bells"

    def prepare(self) -> None:
        """Make what is missing; harmless when several processes do it at once."""
        if not self.root.is_dir():
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(PASSABLE_DIRECTORY)
        for directory in (self.blobs, self.unfinished, self.bells):
            directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        # SQLite would make it under the umask.
        os.close(os.open(self.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))

    def lock(self) -> FairLock:
        """A lock of our own on the database."""
        return FairLock(self.root / "store.lock", self.root / "store.turn")


class FairLock:
    """A lock between processes under which nobody starves.

    The kernel gives a freed flock to whoever asks first, and that is the process that just let it go. So a waiter holds
    the turnstile while it waits: the one that let go has to stand behind it. The kernel frees both when a holder dies.

    Args:
        lock: the file that is held.
        turnstile: the file that one waits at.
    """

    def __init__(self, lock: Path, turnstile: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(lock, flags, PRIVATE_FILE)
        self._turnstile = os.open(turnstile, flags, PRIVATE_FILE)

    def __enter__(self) -> Self:
        fcntl.flock(self._turnstile, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._lock)
        os.close(self._turnstile)
