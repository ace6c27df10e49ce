"""Files as the blobs need them: read with suspicion, written without traces of what failed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rolehost.errors import AlreadyExistsError, InvalidParameterError, StoreError, StoreFullError, StoreUnavailableError
from rolehost.stores.embedded.layout import PRIVATE_FILE

_BLOCK: Final = 1024 * 1024
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Content:
    """What was read or written.

    Args:
        size: bytes.
        sha256: in lower-case hexadecimal.
    """

    size: int
    sha256: str


@contextmanager
def opened_regular(path: Path) -> Iterator[int]:
    """A regular file, open for reading: never what a link points to, never a device or a pipe that would hang us.

    Raises:
        InvalidParameterError: it is something else, or missing.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            raise InvalidParameterError(f"{path.name!r} can't be read as a regular file", "source") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise InvalidParameterError(f"{path.name!r} is no regular file", "source")
        yield file
    finally:
        os.close(file)


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


@contextmanager
def new(path: Path) -> Iterator[int]:
    """A file that didn't exist before; it is gone again if the block fails.

    Raises:
        AlreadyExistsError: there is something with this path.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    except FileExistsError:
        raise AlreadyExistsError(f"there is a file {path.name!r} already") from None
    try:
        yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise
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
            _write_all(target, block)
    return Content(size, digest.hexdigest())


def checksum(file: int) -> Content:
    """A file's size and checksum."""
    return copy(file, None)


def write(target: int, content: bytes) -> Content:
    """Write bytes."""
    _write_all(target, content)
    return Content(len(content), hashlib.sha256(content).hexdigest())


def flush_directory(directory: Path) -> None:
    """Make the names in a directory survive a power failure."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def translated(error: OSError) -> StoreError:
    """What an error of the file system means to a caller."""
    if error.errno in _FULL:
        return StoreFullError("no space is left on the disk")
    return StoreUnavailableError(f"the file system does not answer: {error.strerror or error}")


def _write_all(target: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(target, rest) :]
