"""Writing results into a folder: under their own names, never outside it, never over another file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rolehost.errors import RoleHostError, StoreError
from rolehost.jobs.job import Result
from rolehost.jobs.submission import display_name
from rolehost.stores import Blobs

_LONGEST_NAME = 255  # bytes, on every usual file system


def prepare(folder: Path) -> None:
    """Make the folder, before anything is submitted.

    Raises:
        RoleHostError: it can't be made, or nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RoleHostError(f"the results can't be written into {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RoleHostError(f"the results can't be written into {folder}: Permission denied")


async def write_result(blobs: Blobs, result: Result, folder: Path) -> Path:
    """Write a result; the file appears under its name once it is whole.

    Raises:
        StoreError: the result is gone, or not what its row says.
        OSError: it can't be written.
    """
    partial = folder / f".rolehost-{secrets.token_hex(8)}.part"
    try:
        facts = await blobs.download(result.blob, partial)
        if facts.sha256 != result.sha256:
            raise StoreError(f"the stored {result.name} is not what was made: its checksum differs")
        return _place(partial, folder, file_name(result.name))
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def file_name(name: str) -> str:
    """A result's name as a file's: one segment, no control characters, not hidden, within the usual limit."""
    return display_name(name).lstrip(".") or "unnamed"


def _place(partial: Path, folder: Path, name: str) -> Path:
    for candidate in _candidates(name):
        target = folder / candidate
        try:
            # The empty file reserves the name, and has the mode that a new file of this person's has.
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as reserved:
            partial.chmod(os.fstat(reserved.fileno()).st_mode & 0o777)
        partial.replace(target)
        return target
    raise AssertionError


def _candidates(name: str) -> Iterator[str]:
    stem, extension = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    number = 1
    while True:
        end = f"-{number}{extension}" if number > 1 else extension
        yield _shortened(stem, _LONGEST_NAME - len(end.encode())) + end
        number += 1


def _shortened(text: str, size: int) -> str:
    return text.encode()[: max(size, 1)].decode(errors="ignore")
