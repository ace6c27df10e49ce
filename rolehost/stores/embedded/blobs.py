"""Blobs as files: the blob contract on a file system.

A blob is one file, `/` in its name written as `,`, in one of 256 directories: all blobs of one sort of a job share
theirs, so that listing them costs a 256th of listing all. It is written under `.tmp`, gets its checksum as an extended
attribute, is flushed, and then gets its name by a hard link, which fails if the name is taken: at every moment a name
either has its whole blob or none. A file system without extended attributes costs a second reading where facts are
asked for, and nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from rolehost.errors import AlreadyExistsError, NotFoundError, StoreError, StoreUnavailableError
from rolehost.failpoints import crossed
from rolehost.stores import names
from rolehost.stores.blobs import BlobFacts, BlobPage
from rolehost.stores.embedded import files
from rolehost.stores.embedded.layout import Layout

Result = TypeVar("Result")

PIECE: Final = 256 * 1024
_THREADS: Final = 8
_LONGEST_NAME: Final = 240  # it is one file name, of 255 bytes at most
_CHECKSUM: Final = "user.rolehost.sha256"


class FileBlobs:
    """Blobs below the data directory.

    Args:
        layout: the data directory.
    """

    def __init__(self, layout: Layout) -> None:
        self._directory = layout.blobs
        self._unfinished = layout.unfinished
        self._threads = ThreadPoolExecutor(_THREADS, "rolehost-blobs")
        files.sweep(self._unfinished)

    async def put(self, name: str, source: Path | bytes, *, consume: bool = False) -> BlobFacts:
        """See `Blobs.put`."""
        return await self._in_thread(lambda: self._put(names.blob_name(name, _LONGEST_NAME), source, consume=consume))

    async def download(self, name: str, target: Path) -> BlobFacts:
        """See `Blobs.download`."""
        return await self._in_thread(lambda: self._download(names.blob_name(name, _LONGEST_NAME), target))

    async def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Blobs.stream`."""
        # A buffered file has a lock of its own: closing waits for a read that a cancelled caller left behind.
        blob = await self._in_thread(lambda: os.fdopen(self._open(names.blob_name(name, _LONGEST_NAME)), "rb", PIECE))
        left = sys.maxsize if length is None else length
        with blob:
            blob.seek(start)
            while left and (piece := await self._in_thread(partial(blob.read, min(PIECE, left)))):
                left -= len(piece)
                yield piece

    async def facts(self, name: str) -> BlobFacts:
        """See `Blobs.facts`."""
        return await self._in_thread(lambda: self._facts(names.blob_name(name, _LONGEST_NAME)))

    async def delete(self, name: str) -> None:
        """See `Blobs.delete`."""
        await self._in_thread(lambda: self._path(names.blob_name(name, _LONGEST_NAME)).unlink(missing_ok=True))

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        """See `Blobs.list`."""
        names.page_size(limit)
        after = names.from_cursor(cursor) or ""
        found = await self._in_thread(lambda: self._names(names.blob_prefix(prefix), limit + 1, after))
        return BlobPage(found[:limit], names.to_cursor(found[limit - 1]) if len(found) > limit else None)

    def close(self) -> None:
        """End the threads when they are done; harmless when called twice."""
        self._threads.shutdown(wait=True)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        try:
            job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError as error:
            raise StoreUnavailableError("the store is closed") from error
        try:
            return await job
        except OSError as error:
            raise files.translated(error) from error

    def _path(self, name: str) -> Path:
        return self._directory / _shard(name) / name.replace("/", ",")

    def _put(self, name: str, source: Path | bytes, *, consume: bool) -> BlobFacts:
        path = self._path(name)
        if path.exists():  # spares the copy; the link below decides
            raise AlreadyExistsError(f"there is a blob {name!r} already")
        if isinstance(source, bytes):
            return self._add(name, lambda target: files.write(target, source))
        with files.opened_regular(source) as file:
            if consume and files.may_be_moved(file, self._directory):
                facts = self._finish(name, file, files.checksum(file))
            else:
                facts = self._add(name, lambda target: files.copy(file, target))
        if consume:
            source.unlink(missing_ok=True)
        return facts

    def _add(self, name: str, fill: Callable[[int], files.Content]) -> BlobFacts:
        with files.unfinished(self._unfinished) as target:
            return self._finish(name, target, fill(target))

    def _finish(self, name: str, file: int, content: files.Content) -> BlobFacts:
        """Give a file that is complete its name."""
        crossed("mid-upload", name)
        with suppress(OSError):  # no extended attributes here
            os.setxattr(file, _CHECKSUM, content.sha256.encode())
        os.fsync(file)
        path = self._path(name)
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            files.flush_directory(self._directory)
        try:
            # By descriptor: whatever happened to the path, this file and no other becomes the blob. The unused
            # src_dir_fd makes Python call linkat, which alone follows the link.
            os.link(f"/proc/self/fd/{file}", path, src_dir_fd=file, follow_symlinks=True)
        except FileExistsError:
            raise AlreadyExistsError(f"there is a blob {name!r} already") from None
        files.flush_directory(path.parent)
        return BlobFacts(name=name, size=content.size, sha256=content.sha256)

    def _download(self, name: str, target: Path) -> BlobFacts:
        blob = self._open(name)
        try:
            recorded = self._recorded_checksum(blob)
            with files.new(target) as copy:
                crossed("mid-download", name)
                content = files.copy(blob, copy)
                if recorded is not None and recorded != content.sha256:
                    raise StoreError(f"the blob {name!r} is damaged: its content does not have its checksum")
            return BlobFacts(name=name, size=content.size, sha256=content.sha256)
        finally:
            os.close(blob)

    def _facts(self, name: str) -> BlobFacts:
        blob = self._open(name)
        try:
            sha256 = self._recorded_checksum(blob)
            if sha256 is None:
                sha256 = files.checksum(blob).sha256
            return BlobFacts(name=name, size=os.fstat(blob).st_size, sha256=sha256)
        finally:
            os.close(blob)

    def _open(self, name: str) -> int:
        try:
            return os.open(self._path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError(f"there is no blob {name!r}") from None

    def _names(self, prefix: str, most: int, after: str) -> Sequence[str]:
        shards = [_shard(prefix)] if prefix.count("/") > 1 else self._files()
        found = (name.replace(",", "/") for shard in shards if shard != ".tmp" for name in self._files(shard))
        return heapq.nsmallest(most, (name for name in found if name.startswith(prefix) and name > after))

    def _files(self, shard: str = "") -> Sequence[str]:
        with suppress(FileNotFoundError):
            return os.listdir(self._directory / shard)  # noqa: PTH208 - names are all that is wanted, and there are many
        return ()

    @staticmethod
    def _recorded_checksum(blob: int) -> str | None:
        try:
            return os.getxattr(blob, _CHECKSUM).decode()
        except OSError:
            return None


def _shard(name: str) -> str:
    """The directory of a name: decided by its first two segments, `results/<job>`."""
    return f"{zlib.crc32('/'.join(name.split('/')[:2]).encode()) % 256:02x}"
