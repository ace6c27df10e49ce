"""Files at the edge of a store: what is read with suspicion, and what is written without traces of a failure."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rolehost.errors import AlreadyExistsError, InvalidParameterError, StoreError, StoreFullError, StoreUnavailableError

PRIVATE_FILE: Final = 0o600
_NO_FILE: Final = {errno.ELOOP, errno.ENXIO, errno.ENOENT, errno.ENOTDIR, errno.EACCES}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def opened_regular(path: Path) -> Iterator[int]:
    """A regular file, open for reading: never what a link points to, never a device or a pipe that would hang us.

    Raises:
        InvalidParameterError: it is something else, or missing.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise InvalidParameterError(f"{path.name!r} can't be read as a regular file", "source") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise InvalidParameterError(f"{path.name!r} is no regular file", "source")
        yield file
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


def write_all(target: int, content: bytes) -> None:
    """Write bytes, all of them."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(target, rest) :]


def translated(error: OSError) -> StoreError:
    """What an error of the file system means to a caller."""
    if error.errno in _FULL:
        return StoreFullError("no space is left on the disk")
    return StoreUnavailableError(f"the file system does not answer: {error.strerror or error}")
