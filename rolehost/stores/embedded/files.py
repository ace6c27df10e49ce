"""Files as the blobs need them: read with suspicion, written without traces of what failed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rolehost.stores.embedded.layout import PRIVATE_FILE
from rolehost.stores.files import new, opened_regular, translated, write_all

__all__ = [
    "Content",
    "checksum",
    "copy",
    "flush_directory",
    "may_be_moved",
    "new",
    "opened_regular",
    "sweep",
    "translated",
    "unfinished",
    "write",
]

_BLOCK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """What was read or written.

    Args:
        size: bytes.
        sha256: in lower-case hexadecimal.
    """

    size: int
    sha256: str


def may_be_moved(file: int, directory: Path) -> bool:
    """Whether a file can become a blob as it is.

    It has to be ours and have no second name: whoever else can write it could change the blob later.
    """
    facts = os.fstat(file)
    ours = facts.st_uid == os.geteuid() and facts.st_nlink == 1
    if not ours or facts.st_dev != directory.stat().st_dev:
        return False
    os.fchmod(file, PRIVATE_FILE)
    return True


@contextmanager
def unfinished(directory: Path) -> Iterator[int]:
    """A new file that is gone after the block, unless it got another name. A lock tells `sweep` that we live."""
    while True:
        path = directory / secrets.token_hex(12)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            break
        os.close(file)  # swept away before we had locked it
    try:
        yield file
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def sweep(directory: Path) -> None:
    """Remove the unfinished files of processes that are gone."""
    for path in directory.iterdir():
        with suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            finally:
                os.close(file)


def copy(source: int, target: int | None) -> Content:
    """Copy a file from its beginning; without a target only read it."""
    digest = hashlib.sha256()
    size = 0
    os.lseek(source, 0, os.SEEK_SET)
    while block := os.read(source, _BLOCK):
        digest.update(block)
        size += len(block)
        if target is not None:
            write_all(target, block)
    return Content(size, digest.hexdigest())


def checksum(file: int) -> Content:
    """A file's size and checksum."""
    return copy(file, None)


def write(target: int, content: bytes) -> Content:
    """Write bytes."""
    write_all(target, content)
    return Content(len(content), hashlib.sha256(content).hexdigest())


def flush_directory(directory: Path) -> None:
    """Make the names in a directory survive a power failure."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
