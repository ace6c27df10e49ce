"""The results of a batch as one ZIP, written as it is sent: neither memory nor disk holds more than a piece of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from rolehost.errors import NotFoundError, StoreError
from rolehost.jobs.batches.adding import safe_folder, safe_name
from rolehost.jobs.batches.manifest import Manifest
from rolehost.jobs.batches.model import PAGE, REMOVED, WAITING, Batch, Item
from rolehost.jobs.job import Job, Result
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Blobs, Stores

ERRORS: Final = "errors.txt"
_SMALL: Final = 256 * 1024
_AHEAD: Final = 8
"""Small results that are fetched while those before them are sent."""
_ZIP64: Final = 2**31 - 1
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o644 << 16


async def items_of(stores: Stores, batch: Batch, start: int = 0) -> AsyncGenerator[tuple[Item, Job | None], None]:
    """The items of a batch from a position on, each with its job where it has one."""
    manifest, jobs = Manifest(stores.blobs, batch.id), JobTable(stores.table(TABLE))
    total = batch.items or 0
    for number in range(start // PAGE, -(-total // PAGE)):
        items = (await manifest.page(number))[max(start - number * PAGE, 0) :]
        for item, job in zip(items, await asyncio.gather(*(jobs.read(item.id) for item in items)), strict=True):
            yield item, job


def state_of(batch: Batch, job: Job | None, at: int) -> str:
    """How an item stands.

    Args:
        batch: the batch.
        job: the item's, if it has one.
        at: the item's position.
    """
    if job is not None:
        return job.state
    if at < batch.placed:
        return REMOVED
    return "cancelled" if batch.state in {"cancelling", "cancelled"} else WAITING


async def results_zip(stores: Stores, batch: Batch) -> AsyncGenerator[bytes, None]:
    """The ZIP, piece by piece: all results that there are, and what became of the other items in `errors.txt`.

    Raises:
        StoreError: a result broke off, or nobody answers: the ZIP is not whole.
    """
    pipe, names, errors = _Pipe(), _Names(), list[str]()
    at = 0
    with ZipFile(pipe, "w", ZIP_STORED) as archive:  # type: ignore[call-overload] # it needs no more of a file
        async with aclosing(_fetched(stores, batch)) as found:
            async for one in found:
                if one.result is None:
                    errors.append(one.line(state_of(batch, one.job, at)))
                else:
                    entry = _entry(names.of(one.item.folder, one.result.name), one.result.size, one.finished_at)
                    with archive.open(entry, "w", force_zip64=one.result.size > _ZIP64) as file:
                        async for piece in _pieces(stores.blobs, one.result, one.small):
                            file.write(piece)
                            yield pipe.take()
                at += 1
        if errors:
            archive.writestr(_entry(ERRORS, 0, batch.ended_at), "".join(errors))
    yield pipe.take()


@dataclass(slots=True)
class _Fetched:
    """An item, its job, and the content of its result where that is small."""

    item: Item
    job: Job | None
    gone: bool = False
    small: bytes | None = None

    @property
    def result(self) -> Result | None:
        return None if self.job is None or self.gone else self.job.result

    @property
    def finished_at(self) -> datetime | None:
        return self.job.finished_at if self.job else None

    def line(self, state: str) -> str:
        """What `errors.txt` says of it."""
        path = f"{self.item.folder}/{self.item.name}" if self.item.folder else self.item.name
        reason = "its result is gone" if self.gone else " ".join(self.job.reason.split()) if self.job else ""
        return f"{path}\t{state}\t{reason}".rstrip() + "\n"

    async def fetch(self, blobs: Blobs) -> _Fetched:
        """Look whether the result is there, and read it if it is small."""
        if self.result is not None:
            try:
                if self.result.size > _SMALL:
                    await blobs.facts(self.result.blob)
                else:
                    self.small = b"".join([piece async for piece in blobs.stream(self.result.blob)])
            except NotFoundError:
                self.gone = True
        return self


async def _fetched(stores: Stores, batch: Batch) -> AsyncGenerator[_Fetched, None]:
    """Items in their order; some are fetched ahead."""
    ahead: deque[asyncio.Task[_Fetched]] = deque()
    try:
        async with aclosing(items_of(stores, batch)) as found:
            async for item, job in found:
                ahead.append(asyncio.create_task(_Fetched(item, job).fetch(stores.blobs)))
                if len(ahead) >= _AHEAD:
                    yield await _first(ahead)
        while ahead:
            yield await _first(ahead)
    finally:
        if ahead:  # they are short, and a file that is being opened is better closed than forgotten
            await asyncio.wait(ahead)
            for task in ahead:
                task.exception()


async def _first(ahead: deque[asyncio.Task[_Fetched]]) -> _Fetched:
    await asyncio.wait([ahead[0]])
    return ahead.popleft().result()


async def _pieces(blobs: Blobs, result: Result, small: bytes | None) -> AsyncIterator[bytes]:
    sent = 0
    if small is not None:
        sent = len(small)
        yield small
    else:
        async for piece in blobs.stream(result.blob):
            sent += len(piece)
            yield piece
    if sent != result.size:
        raise StoreError(f"the stored {result.name} is not what was made: it has {sent} of {result.size} bytes")


def _entry(name: str, size: int, moment: datetime | None) -> ZipInfo:
    entry = ZipInfo(name, max(moment.timetuple()[:6], _EARLIEST) if moment else _EARLIEST)
    entry.external_attr = _MODE
    entry.file_size = size
    return entry


class _Names:
    """Names of entries: below the folder where they are unpacked, and no two the same, also where case is none."""

    def __init__(self) -> None:
        self._taken: set[str] = {ERRORS}  # ours
        self._numbers: dict[str, int] = {}

    def of(self, folder: str, name: str) -> str:
        plain = PurePosixPath(safe_folder(folder), safe_name(name))
        chosen, key = str(plain), str(plain).casefold()
        number = self._numbers.get(key, 1)  # not from the beginning: thousands may be called the same
        while chosen.casefold() in self._taken:
            number += 1
            chosen = str(plain.with_name(f"{plain.stem}-{number}{plain.suffix}"))
        self._numbers[key] = number
        self._taken.add(chosen.casefold())
        return chosen


class _Pipe:
    """What `zipfile` writes to: it can't seek, and keeps nothing that was taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
