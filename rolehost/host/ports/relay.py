"""The load balancer's data path for TCP: one public port, spread over the instances that are ready.

Bytes pass as they are, TLS and protocols unread. An instance sees the relay as its client. What was connected stays
with its instance, however busy that gets; the port is held while every instance is recycling.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from typing import cast

from rolehost import clock
from rolehost.host.ports.listening import bound_address, listen, shown_address
from rolehost.host.ports.rotation import Backend, Rotation

# An instance that is ready may bind its port a moment later.
_PAUSE_SECONDS = 0.02
_CONNECT_SECONDS = 3.0
# How long an end that takes nothing more may keep a connection whose other end is gone.
_LINGER_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_BACKLOG = 1024
_RESET = struct.pack("ii", 1, 0)
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


class Relay:
    """A public TCP port and the instances behind it. It is bound at once, and accepts once it is started.

    Args:
        host: the address.
        port: the port; 0: a free one.
        hold_seconds: how long a client waits for an instance that is ready, before its connection is closed.

    Raises:
        RoleHostError: the port is in use, or may not be had.
    """

    def __init__(self, host: str, port: int, *, hold_seconds: float = 10.0) -> None:
        self._listening = listen(host, port)
        self.port = int(self._listening.getsockname()[1])
        self.bound = bound_address(self._listening)
        self.address = shown_address(self._listening)
        self._hold_seconds = hold_seconds
        self._rotation = Rotation()
        self._ends: set[_End] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        if self._server is None and self._listening.fileno() >= 0:
            self._server = await loop.create_server(self._client, sock=self._listening, backlog=_BACKLOG)

    def set_backends(self, backends: Iterable[Backend]) -> None:
        """Take these instances in place of those before; connections stay where they are."""
        self._rotation.set(backends)

    def stop_accepting(self) -> None:
        """Close the port; connections go on."""
        if self._server is not None:
            self._server.close()
        self._listening.close()

    async def unused(self) -> None:
        """Return once nothing is connected any more."""
        while self._ends or self._waiting:
            await clock.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Close the port and what is connected."""
        self.stop_accepting()
        for task in self._waiting:
            task.cancel()
        for end in [*self._ends]:
            end.abort()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the loop's next round

    def _client(self) -> _End:
        return _End(self._accepted, self._ends.discard)

    def _accepted(self, client: _End) -> None:
        # What the client sends waits in its own and the system's buffers. One turn of the loop later, as the transport
        # begins to read after this call, paused or not, in the first releases of Python 3.11.
        asyncio.get_running_loop().call_soon(client.transport.pause_reading)
        self._ends.add(client)
        task = asyncio.create_task(self._serve(client))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _serve(self, client: _End) -> None:
        try:
            async with asyncio.timeout(self._hold_seconds):
                await self._connect(client)
        except TimeoutError:
            client.abort()

    async def _connect(self, client: _End) -> None:
        """Join the client to the first ready backend that takes the connection."""
        tried: list[Backend] = []
        while not client.transport.is_closing():
            backend = self._rotation.enter(but=tried)
            if backend is None:
                await (clock.sleep(_PAUSE_SECONDS) if tried else self._rotation.some_ready())
                tried.clear()
            elif await self._joined(client, backend):
                return
            else:
                tried.append(backend)

    async def _joined(self, client: _End, backend: Backend) -> bool:
        made: list[_End] = []

        def joined(server: _End) -> None:
            made.append(server)
            self._ends.add(server)
            server.join(client)

        def ended(server: _End) -> None:
            self._ends.discard(server)
            self._rotation.leave(backend)

        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: _End(joined, ended), *backend.address)
        except (OSError, asyncio.CancelledError) as error:
            if not made:
                self._rotation.leave(backend)
            if isinstance(error, asyncio.CancelledError):
                raise
        return bool(made)


class _End(asyncio.Protocol):
    """One end of a relayed connection: what it reads, the other end writes, and no faster than that takes it.

    Args:
        made: called with it once it is connected.
        lost: called with it once it is closed.
    """

    def __init__(self, made: Callable[[_End], None], lost: Callable[[_End], None]) -> None:
        self._made = made
        self._lost = lost
        self._other: _End | None = None
        self._ended = False
        self._broken = False
        self.transport: asyncio.Transport

    def join(self, other: _End) -> None:
        """Make these two the ends of one connection."""
        self._other, other._other = other, self
        if other.transport.is_closing():
            self.abort()
        else:
            other.transport.resume_reading()

    def abort(self) -> None:
        """End it at once, so that the far end sees that it is broken, not complete."""
        if not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's: we are connected."""
        self.transport = cast("asyncio.Transport", transport)
        _notice_vanished(self.transport.get_extra_info("socket"))
        self._made(self)

    def data_received(self, data: bytes) -> None:
        """The loop's: the far end wrote this."""
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.write(data)

    def eof_received(self) -> bool:
        """The loop's: the far end writes no more, and may read on."""
        self._ended = True
        other = self._other
        if other is None or other.transport.is_closing():
            self._close()
            return True
        other.transport.write_eof()
        if other._ended:  # noqa: SLF001 - its twin's
            other._close()  # noqa: SLF001 - its twin's
            self._close()
        return True

    def pause_writing(self) -> None:
        """The loop's: the far end takes no more for now, so that the other one may not send more."""
        if self._other is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        """The loop's: it takes more again."""
        if self._broken:
            asyncio.get_running_loop().call_soon(self.abort)
        elif self._other is not None:
            self._other.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        """The loop's: it is closed; the other one follows once it has written what it was given."""
        self._lost(self)
        other = self._other
        if other is not None and not other.transport.is_closing():
            other._outlive(complete=self._ended)  # noqa: SLF001 - its twin's

    def _outlive(self, *, complete: bool) -> None:
        """The other end is gone: write what it left, then close, or break if that is not the whole."""
        self._patience()
        if complete:
            # What still comes is read and dropped: closing on it would reset, and the far end lose what we wrote last.
            self.transport.resume_reading()
        elif self.transport.get_write_buffer_size():
            self._broken = True
            self.transport.pause_reading()
            self.transport.set_write_buffer_limits(high=0)  # `resume_writing` then means that all is written
        else:
            self.abort()

    def _close(self) -> None:
        self.transport.close()
        self._patience()

    def _patience(self, left: int = -1) -> None:
        """End the connection once the far end has taken nothing for too long."""
        size = self.transport.get_write_buffer_size()
        if size == left and size:
            self.abort()
        elif size == left:
            self.transport.close()
        elif size or not self.transport.is_closing():
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._patience, size)


def _notice_vanished(end: socket.socket) -> None:
    """Let the system ask whether the far end is still there: one without power says no goodbye."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
