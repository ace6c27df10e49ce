"""What happens to a running service, told to whoever listens at the moment; nothing is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

Item: TypeAlias = "Mapping[str, Any]"


class News:
    """Listeners, each with a queue of its own."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[Item]] = []

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._queues)

    @contextmanager
    def heard(self) -> Iterator[asyncio.Queue[Item]]:
        """Listen; the queue gets all that is told from now on."""
        queue: asyncio.Queue[Item] = asyncio.Queue()
        self._queues.append(queue)
        try:
            yield queue
        finally:
            self._queues.remove(queue)

    def tell(self, item: Item) -> None:
        """Tell everybody."""
        for queue in self._queues:
            queue.put_nowait(item)
