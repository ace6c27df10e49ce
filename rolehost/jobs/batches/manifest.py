"""The items of a batch, in blobs that never change: slices as they were added, then pages as they are worked on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from rolehost.errors import AlreadyExistsError, NotFoundError
from rolehost.jobs.batches.model import PAGE, Item
from rolehost.jobs.codec import dumps
from rolehost.stores import Blobs

ROOT = "batches"
AT_ONCE = 8
"""Blobs that are read or written at the same time."""


class Manifest:
    """A batch's.

    Args:
        blobs: where it is.
        batch: the batch's id.
    """

    def __init__(self, blobs: Blobs, batch: str) -> None:
        self._blobs = blobs
        self._root = f"{ROOT}/{batch}"

    async def add(self, name: str, items: Sequence[Item]) -> bool:
        """Put a slice; False if one of this name and length is there already.

        Args:
            name: up to 100 letters, digits and hyphens.
            items: what it holds.
        """
        try:
            await self._blobs.put(f"{self._root}/added/{name}.{len(items)}", encoded(items))
        except AlreadyExistsError:
            return False
        return True

    async def slice_named(self, name: str) -> Sequence[Item] | None:
        """What a slice holds; None if there is none of this name."""
        names = (await self._blobs.list(f"{self._root}/added/{name}.", limit=1)).names
        return decoded(await self._read(names[0])) if names else None

    async def holds(self, name: str) -> bool:
        """Whether a slice that was put is in the batch, or will be: one that came after the sealing is not."""
        try:
            index: list[str] = json.loads(await self._read(f"{self._root}/index"))
        except NotFoundError:
            return True
        return any(each.startswith(f"{self._root}/added/{name}.") for each in index)

    async def slices(self) -> Sequence[str]:
        """The slices that were put, in the order of their names."""
        names: list[str] = []
        cursor = None
        while True:
            page = await self._blobs.list(f"{self._root}/added/", cursor=cursor)
            names += page.names
            if (cursor := page.cursor) is None:
                return names

    async def added(self) -> int:
        """How many items were added so far, those twice that were added twice; told by the names of the slices."""
        return sum(int(name.rpartition(".")[2]) for name in await self.slices())

    async def known(self) -> set[str]:
        """The ids of all items that were added so far."""
        return {item.id for item in await self._items(await self.slices())}

    async def close(self) -> int:
        """Make pages of what was added, each item once; whoever does it, and how often, makes the same.

        Returns:
            How many items there are.
        """
        index = f"{self._root}/index"
        with suppress(AlreadyExistsError):
            await self._blobs.put(index, dumps(list(await self.slices())).encode())
        once = {item.id: item for item in await self._items(json.loads(await self._read(index)))}
        items = sorted(once.values(), key=lambda item: (item.folder, item.name, item.id))
        for start in range(0, len(items), PAGE * AT_ONCE):
            numbers = range(start // PAGE, -(-min(start + PAGE * AT_ONCE, len(items)) // PAGE))
            await asyncio.gather(*(self._put_page(number, items) for number in numbers))
        return len(items)

    async def page(self, number: int) -> Sequence[Item]:
        """The items from position `number * PAGE` on."""
        return decoded(await self._read(self._page_name(number)))

    async def remove(self) -> None:
        """All of it goes."""
        while names := (await self._blobs.list(f"{self._root}/")).names:
            for name in names:
                await self._blobs.delete(name)

    async def _put_page(self, number: int, items: Sequence[Item]) -> None:
        with suppress(AlreadyExistsError):
            await self._blobs.put(self._page_name(number), encoded(items[number * PAGE : (number + 1) * PAGE]))

    def _page_name(self, number: int) -> str:
        return f"{self._root}/pages/{number:06d}"

    async def _items(self, names: Sequence[str]) -> list[Item]:
        found: list[Item] = []
        for start in range(0, len(names), AT_ONCE):
            texts = await asyncio.gather(*(self._read(name) for name in names[start : start + AT_ONCE]))
            found += [item for text in texts for item in decoded(text)]
        return found

    async def _read(self, name: str) -> bytes:
        return b"".join([piece async for piece in self._blobs.stream(name)])


def encoded(items: Iterable[Item]) -> bytes:
    """Items as a blob; parameters, which most have in common, are written once."""
    parameters: dict[str, int] = {}
    rows = [
        [
            item.id,
            item.name,
            item.folder,
            item.size,
            item.type,
            parameters.setdefault(dumps(dict(item.parameters)), len(parameters)),
        ]
        for item in items
    ]
    return dumps({"parameters": [json.loads(text) for text in parameters], "items": rows}).encode()


def decoded(text: bytes) -> list[Item]:
    """The reverse of `encoded`."""
    told: dict[str, Any] = json.loads(text)
    return [
        Item(id=job, name=name, folder=folder, size=size, type=media_type, parameters=told["parameters"][number])
        for job, name, folder, size, media_type, number in told["items"]
    ]
