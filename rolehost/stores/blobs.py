"""The blob contract: named bytes that are written once and never change.

`tests/conformance/test_blobs.py` holds every engine to this page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobFacts:
    """What is known of a blob.

    Args:
        name: segments of letters, digits, `.`, `-` and `_`, divided by `/`; no segment is empty or begins with a dot.
        size: bytes.
        sha256: of the content, in lower-case hexadecimal.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BlobPage:
    """Some names, and where to go on; `cursor` is None at the end."""

    names: Sequence[str]
    cursor: str | None = None


class Blobs(Protocol):
    """Blobs by name. A name that no blob may have is an `InvalidParameterError` everywhere."""

    async def put(self, name: str, source: Path | bytes, *, consume: bool = False) -> BlobFacts:
        """Store a file or bytes under a name that must be free; the checksum is verified on the way.

        Args:
            name: the blob's name.
            source: a regular file (a symbolic link is refused), or the bytes themselves.
            consume: the file is ours to take: the engine may move it instead of copying it, and it is gone afterwards.

        Raises:
            AlreadyExistsError: the name is taken; nothing was changed, the source is still there.
            InvalidParameterError: the source is no regular file.
            LimitExceededError: the name is longer than the engine can take; 240 characters always fit.
            StoreFullError: no space is left; nothing of it remains.
        """

    async def download(self, name: str, target: Path) -> BlobFacts:
        """Write a blob's content into a new file, never a link to the store's own; its checksum is verified.

        Args:
            name: the blob's name.
            target: a path that is free; the file gets mode 0600, and is gone again if the download fails.

        Raises:
            NotFoundError: there is no such blob.
            AlreadyExistsError: the path is taken.
            StoreFullError: no space is left for the file.
            StoreError: the blob is damaged.
        """

    def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """A blob's content, or a part of it, in pieces of up to 256 KiB.

        Args:
            name: the blob's name.
            start: the first byte; less than the blob's size, or 0.
            length: bytes from there on, at least 1; what is beyond the blob's end doesn't come. None: all.

        Raises:
            NotFoundError: there is no such blob; raised at the first piece.
        """

    async def facts(self, name: str) -> BlobFacts:
        """What is known of a blob.

        Raises:
            NotFoundError: there is no such blob.
        """

    async def delete(self, name: str) -> None:
        """Remove a blob; not an error if it is gone."""

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        """Names that begin with a prefix, in order of the text; a cursor stays good while blobs come and go.

        Raises:
            InvalidParameterError: the cursor is not one of ours.
        """
