"""A TCP proxy that a test puts between a client and its server: slow, cut, deaf, refusing, or answering HTTP by itself.

    async with Proxy("127.0.0.1", server_port) as proxy:
        client = connect(proxy.host, proxy.port)
        proxy.latency = 0.2                                    # seconds that every piece takes longer, each way
        proxy.cut()                                            # all open connections are reset
        proxy.freeze()                                         # half-open: all stays connected, nothing passes ...
        proxy.thaw()                                           # ... and what waited passes now
        proxy.down()                                           # cut, and new connections are reset, too
        proxy.up()
        proxy.answer(503, {"Retry-After": "1"}, times=2)       # HTTP: the next two requests never reach the server
        proxy.lose_answer(matching="POST /jobs")               # HTTP: the server does it, and the client is cut off

It forwards bytes: TLS and AMQP pass through. The two orders about HTTP need plain HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

PIECE = 1 << 16
LINGER = 1.0
"""Seconds in which the rest of a request that was answered here is read, so that its client reads the answer."""
_RESET = struct.pack("ii", 1, 0)
_REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/1\.1\r\n")


@dataclass(slots=True)
class _Order:
    """What becomes of the next requests whose first line has a text in it; without an answer it is lost."""

    matching: str
    times: int | None
    answer: bytes | None
    holding: bytes = b""


@dataclass(eq=False, slots=True)
class _Connection:
    """A client's connection and the server's end of it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    losing: bool = False

    def reset(self) -> None:
        for end in (self.client, self.server):
            _reset(end)


def _reset(end: asyncio.StreamWriter) -> None:
    """Close without a farewell: the peer gets a reset, not an end."""
    with suppress(OSError):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    end.transport.abort()


class Proxy:
    """Listens on a free port of the loopback interface; `host` and `port` are for clients.

    Args:
        server_host: where the server is.
        server_port: the same.

    `latency` may be set at any time; `connections` is how many are open, `accepted` how many there were, and `requests`
    has the first line of every HTTP request that came through in a piece of its own.
    """

    def __init__(self, server_host: str, server_port: int) -> None:
        self._server = server_host, server_port
        self.host = "127.0.0.1"
        self.port = 0
        self.latency = 0.0
        self.accepted = 0
        self.requests: list[str] = []
        self._orders: list[_Order] = []
        self._open: set[_Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._passing = asyncio.Event()
        self._passing.set()

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._accepted, self.host, 0)
        self.port = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        self.thaw()
        self.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._listening.wait_closed()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def cut(self) -> None:
        """Reset every connection; new ones are welcome."""
        for connection in tuple(self._open):
            connection.reset()

    def freeze(self) -> None:
        """Pass nothing on; connections stay, and new ones are accepted: a peer that is silent."""
        self._passing.clear()

    def thaw(self) -> None:
        """Pass on what waited, and all that follows."""
        self._passing.set()

    def down(self) -> None:
        """Reset every connection, and each new one."""
        self._refusing = True
        self.cut()

    def up(self) -> None:
        """Let new connections through again."""
        self._refusing = False

    def answer(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        matching: str = "",
        holding: str = "",
        times: int | None = 1,
    ) -> None:
        """Answer requests in the server's place; they never reach it.

        Args:
            status: of the answer, 503.
            headers: besides its length.
            body: of the answer.
            matching: a text in the request's first line, `PUT /container`.
            holding: a text in what came with it, as far as it came in one piece: all of a request that is short.
            times: how many requests; None for all from now on.
        """
        told = {**(headers or {}), "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {told[name]}" for name in told), "", ""]
        self._orders.append(_Order(matching, times, "\r\n".join(lines).encode() + body, holding.encode()))

    def lose_answer(self, *, matching: str = "", times: int | None = 1) -> None:
        """Pass requests on, and reset their connections once the server answers."""
        self._orders.append(_Order(matching, times, None))

    def no_orders(self) -> None:
        """Forget the orders about HTTP."""
        self._orders.clear()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._server)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(writer, server_writer)
        self._open.add(connection)
        if self._refusing:
            connection.reset()
            self._open.discard(connection)
            return
        there = asyncio.create_task(self._forward(connection, reader, server_writer, asking=True))
        back = asyncio.create_task(self._forward(connection, server_reader, writer, asking=False))
        try:
            await asyncio.gather(there, back)
        finally:
            connection.reset()
            self._open.discard(connection)

    async def _forward(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asking: bool
    ) -> None:
        """One direction, until its end; the other one may go on."""
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                await asyncio.sleep(self.latency)
                await self._passing.wait()
                if asking and (answer := self._ordered(connection, piece)) is not None:
                    await self._answer(connection, reader, answer)
                    return
                if not asking and connection.losing:
                    connection.reset()
                    return
                writer.write(piece)
                await writer.drain()
            await self._passing.wait()
            if writer.can_write_eof():
                writer.write_eof()

    def _ordered(self, connection: _Connection, piece: bytes) -> bytes | None:
        """The answer to a request, if one was ordered."""
        line = _REQUEST.match(piece)
        if line is None:
            return None
        told = line[0].decode("latin-1").strip()
        self.requests.append(told)
        for order in self._orders:
            if order.matching in told and order.holding in piece and order.times != 0:
                order.times = None if order.times is None else order.times - 1
                connection.losing = order.answer is None
                return order.answer
        return None

    async def _answer(self, connection: _Connection, reader: asyncio.StreamReader, answer: bytes) -> None:
        connection.client.write(answer)
        await connection.client.drain()
        connection.client.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while await reader.read(PIECE):
                    pass
        connection.reset()
