"""A two-way line between two processes of the host: one JSON document a line, over a socket pair."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any, Self

_LONGEST_LINE = 4 << 20


class Link:
    """One end of the line. Made by `Link.open`.

    Args:
        reader: what the other end writes.
        writer: what it reads.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Take over an end of a `socket.socketpair()`.

        Args:
            end: it is closed with the link; a descriptor that was passed on is `socket.socket(fileno=number)`.
        """
        end.setblocking(False)  # noqa: FBT003 - the standard library's positional flag
        return cls(*await asyncio.open_connection(sock=end, limit=_LONGEST_LINE))

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; nothing happens if the other end is gone, which `receive` tells."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None: the other end is gone."""
        try:
            line = await self._reader.readline()
            return dict(json.loads(line)) if line.endswith(b"\n") else None
        except (ConnectionError, ValueError):
            return None

    def close(self) -> None:
        """Close the line."""
        self._writer.close()
