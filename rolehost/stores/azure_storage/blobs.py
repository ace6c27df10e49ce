"""Blobs: the blob contract on Azure Blob Storage.

A blob that fits goes up in one conditional request with its MD5, which the service checks; a larger one in blocks, each
checked, which become a blob in one conditional request. Its SHA-256 is in its metadata.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobBlock
from azure.storage.blob.aio import BlobClient, ContainerClient, StorageStreamDownloader

from rolehost.errors import AlreadyExistsError, NotFoundError, StoreError
from rolehost.stores import files, names
from rolehost.stores.azure_storage.failures import code, translated
from rolehost.stores.blobs import BlobFacts, BlobPage

Answer = TypeVar("Answer")

LARGEST_SINGLE: Final = 16 * 1024 * 1024
"""Bytes that go up in one request, and are held in memory for it."""
PIECE: Final = 8 * 1024 * 1024
_STREAMED: Final = 256 * 1024
_LONGEST_NAME: Final = 1024
_SHA256: Final = "sha256"
_NO_CONTAINER: Final = "ContainerNotFound"
_TAKEN: Final = {"BlobAlreadyExists", "InvalidBlockList"}
"""Blocks that are gone when they are to become a blob: another one has got its name meanwhile, and took them away."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Readable(Protocol):
    def read(self, most: int, /) -> bytes: ...


class AzureBlobs:
    """Blobs in one container.

    Args:
        container: its client; the container is made when the first upload finds none.
    """

    def __init__(self, container: ContainerClient) -> None:
        self._container = container
        self._what = f'the container "{container.container_name}"'

    async def put(self, name: str, source: Path | bytes, *, consume: bool = False) -> BlobFacts:
        """See `Blobs.put`."""
        blob = self._blob(name)
        if isinstance(source, bytes):
            return await self._put(blob, name, io.BytesIO(source), len(source))
        try:
            with await asyncio.to_thread(_Source, source) as file:
                facts = await self._put(blob, name, file, file.size)
        except OSError as error:
            raise files.translated(error) from error
        if consume:
            await asyncio.to_thread(source.unlink, missing_ok=True)
        return facts

    async def download(self, name: str, target: Path) -> BlobFacts:
        """See `Blobs.download`."""
        blob = self._blob(name)
        digest, size = hashlib.sha256(), 0
        try:
            with files.new(target) as file, translated(self._what):
                found = await self._opened(blob, name)
                async for piece in found.chunks():
                    size += len(piece)
                    await asyncio.to_thread(_write, file, piece, digest)
                if _recorded(found) not in {digest.hexdigest(), None}:
                    raise StoreError(f"the blob {name!r} is damaged: its content does not have its checksum")
        except OSError as error:
            raise files.translated(error) from error
        return BlobFacts(name=name, size=size, sha256=digest.hexdigest())

    async def stream(self, name: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Blobs.stream`."""
        blob = self._blob(name)
        with translated(self._what):
            try:
                found = await self._opened(blob, name, start, length)
            except HttpResponseError as error:
                if error.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return  # it ends before the part begins; an empty one has no parts at all
                raise
            async for piece in found.chunks():
                for place in range(0, len(piece), _STREAMED):
                    yield piece[place : place + _STREAMED]

    async def facts(self, name: str) -> BlobFacts:
        """See `Blobs.facts`."""
        blob = self._blob(name)
        with translated(self._what):
            try:
                found = await blob.get_blob_properties()
            except ResourceNotFoundError:
                raise NotFoundError(f"there is no blob {name!r}") from None
        sha256 = found.metadata.get(_SHA256)
        if sha256 is None:  # not one of ours
            digest = hashlib.sha256()
            async for piece in self.stream(name):
                await asyncio.to_thread(digest.update, piece)
            sha256 = digest.hexdigest()
        return BlobFacts(name=name, size=int(found.size), sha256=str(sha256))

    async def delete(self, name: str) -> None:
        """See `Blobs.delete`."""
        blob = self._blob(name)
        with translated(self._what), suppress(ResourceNotFoundError):
            await blob.delete_blob(delete_snapshots="include")

    async def list(self, prefix: str = "", *, limit: int = 1000, cursor: str | None = None) -> BlobPage:
        """See `Blobs.list`."""
        names.page_size(limit)
        marker = names.from_cursor(cursor)
        listed = self._container.list_blob_names(name_starts_with=names.blob_prefix(prefix), results_per_page=limit)
        pages = listed.by_page(continuation_token=marker)
        with translated(self._what):
            try:
                page = await anext(pages, None)
                found = [] if page is None else [str(name) async for name in page]
            except ResourceNotFoundError:  # no container, no blobs
                return BlobPage([])
        follows = getattr(pages, "continuation_token", None)
        return BlobPage(found, names.to_cursor(follows) if follows else None)

    def _blob(self, name: str) -> BlobClient:
        return self._container.get_blob_client(names.blob_name(name, _LONGEST_NAME))

    async def _opened(
        self, blob: BlobClient, name: str, start: int = 0, length: int | None = None
    ) -> StorageStreamDownloader[bytes]:
        whole = not start and length is None
        try:
            return await blob.download_blob(None if whole else start, length)
        except ResourceNotFoundError:
            raise NotFoundError(f"there is no blob {name!r}") from None

    async def _put(self, blob: BlobClient, name: str, source: _Readable, size: int) -> BlobFacts:
        if size > LARGEST_SINGLE:
            return await self._put_blocks(blob, name, source)
        return await self._put_whole(blob, name, await asyncio.to_thread(source.read, LARGEST_SINGLE))

    async def _put_whole(self, blob: BlobClient, name: str, content: bytes) -> BlobFacts:
        sha256, md5 = await asyncio.to_thread(_checksums, content)
        await self._added(
            name,
            lambda: blob.upload_blob(content, overwrite=False, metadata={_SHA256: sha256}, raw_request_hook=_with(md5)),
        )
        return BlobFacts(name=name, size=len(content), sha256=sha256)

    async def _put_blocks(self, blob: BlobClient, name: str, file: _Readable) -> BlobFacts:
        """Block by block; a block's name is this upload's own, so that two uploads never mix."""
        upload, size, digest = secrets.token_hex(8), 0, hashlib.sha256()
        blocks: list[BlobBlock] = []
        while content := await asyncio.to_thread(file.read, PIECE):
            size += len(content)
            _, md5 = await asyncio.to_thread(_checksums, content, digest)
            block = BlobBlock(block_id=f"{upload}{len(blocks):06d}")
            stage = _staging(blob, block, content, md5)
            await self._added(name, stage)
            blocks.append(block)
        sha256 = digest.hexdigest()
        await self._added(name, lambda: _commit(blob, blocks, sha256))
        return BlobFacts(name=name, size=size, sha256=sha256)

    async def _added(self, name: str, call: Callable[[], Awaitable[Any]]) -> None:
        with translated(self._what):
            try:
                await self._made_on_first_use(call)
            except HttpResponseError as error:
                if code(error) in _TAKEN:
                    raise AlreadyExistsError(f"there is a blob {name!r} already") from None
                raise

    async def _made_on_first_use(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await call()
        except ResourceNotFoundError as error:
            if code(error) != _NO_CONTAINER:
                raise
            with suppress(ResourceExistsError):  # another process was faster
                await self._container.create_container()
            return await call()


class _Source:
    """A regular file that is read once, from its beginning."""

    def __init__(self, path: Path) -> None:
        self._context = files.opened_regular(path)
        self._file = self._context.__enter__()
        self.size = os.fstat(self._file).st_size

    def read(self, most: int, /) -> bytes:
        pieces: list[bytes] = []
        while most and (piece := os.read(self._file, most)):
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)


def _staging(blob: BlobClient, block: BlobBlock, content: bytes, md5: str) -> Callable[[], Awaitable[Any]]:
    return lambda: blob.stage_block(str(block.id), content, raw_request_hook=_with(md5))


async def _commit(blob: BlobClient, blocks: list[BlobBlock], sha256: str) -> None:
    await blob.commit_block_list(blocks, metadata={_SHA256: sha256}, match_condition=MatchConditions.IfMissing)


def _with(md5: str) -> Callable[[Any], None]:
    """Have the service check what arrives: computed here, in a thread, where the client would do it on the loop."""

    def add(request: Any) -> None:
        request.http_request.headers["Content-MD5"] = md5

    return add


def _checksums(content: bytes, digest: _Digest | None = None) -> tuple[str, str]:
    whole = digest or hashlib.sha256()
    whole.update(content)
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    return whole.hexdigest(), b64encode(md5).decode()


def _write(file: int, piece: bytes, digest: _Digest) -> None:
    files.write_all(file, piece)
    digest.update(piece)


def _recorded(found: StorageStreamDownloader[bytes]) -> str | None:
    metadata = found.properties.metadata or {}
    return metadata.get(_SHA256)
