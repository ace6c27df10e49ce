"""A two-way line between two processes of the host: one JSON document a line, over a socket pair."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any, Self

from rolehost.telemetry import emit

_LONGEST_LINE = 4 << 20
# What an end that reads nothing any more may cost.
_MOST_UNREAD = 8 << 20


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
        """Send a message; nothing happens if the other end is gone, which `receive` tells.

        Where some megabytes wait to be read, the line is ended: to lose single messages would leave the two ends with
        different views.
        """
        if self._writer.is_closing():
            return
        self._writer.write(json.dumps(message).encode() + b"\n")
        if self._writer.transport.get_write_buffer_size() > _MOST_UNREAD:
            emit("link.overflowed")
            self.abort()

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None: the other end is gone."""
        try:
            line = await self._reader.readline()
            return dict(json.loads(line)) if line.endswith(b"\n") else None
        except (ConnectionError, ValueError):
            return None

    def abort(self) -> None:
        """End the line at once: what the other end has not read is lost."""
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the line once the other end has read what was sent."""
        self._writer.close()
