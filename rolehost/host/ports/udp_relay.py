"""The load balancer's data path for UDP: a client's datagrams go to one instance for as long as they keep coming."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.ports.listening import bound_address, shown_address
from rolehost.host.ports.rotation import Backend, Rotation
from rolehost.telemetry import emit

_LARGEST = 65_535
# One side's flood does not keep the loop from the others.
_AT_ONCE = 64
_RECEIVE_BUFFER = 1 << 20
TELL_SECONDS = 10.0
"""Between two reports of lost datagrams."""


@dataclass(slots=True)
class _Session:
    client: Any
    backend: Backend
    socket: socket.socket
    used_at: float


class UdpRelay:
    """A public UDP port and the instances behind it. It is bound at once, and relays once it is started.

    A datagram that comes while no instance is ready is lost, as with the original's load balancer: whoever sends them
    asks again by itself, and an answer that comes late is worse to it than none. How many were lost is told, at once
    and then every ten seconds, as `endpoint.datagrams_lost`.

    Args:
        host: the address.
        port: the port; 0: a free one.
        idle_seconds: a client that was silent for so long, both ways, may get another instance (the original's four
            minutes).
        most: clients at a time; the one that was silent for longest makes room.

    Raises:
        RoleHostError: the port is in use, or may not be had.
    """

    def __init__(self, host: str, port: int, *, idle_seconds: float = 240.0, most: int = 1024) -> None:
        self._public = _bound(host, port)
        self.port = int(self._public.getsockname()[1])
        self.bound = bound_address(self._public)
        self.address = shown_address(self._public)
        self._idle_seconds = idle_seconds
        self._most = most
        self._rotation = Rotation()
        self._sessions: OrderedDict[Any, _Session] = OrderedDict()
        self._sweeping: asyncio.Task[None] | None = None
        self._lost = 0
        self._telling: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Relay datagrams."""
        if self._sweeping is None and self._public.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._public, self._from_clients)
            self._sweeping = asyncio.create_task(self._sweep())

    def set_backends(self, backends: Iterable[Backend]) -> None:
        """Take these instances in place of those before; clients stay with theirs while it is among them."""
        self._rotation.set(backends)
        there = {(each.instance, each.address) for each in self._rotation.backends}
        for session in [*self._sessions.values()]:
            if (session.backend.instance, session.backend.address) not in there:
                self._end(session)

    def stop_accepting(self) -> None:
        """Take no new clients."""
        self._rotation.set(())

    async def unused(self) -> None:
        """Return at once: clients are not told that a port goes, whoever they are."""

    async def close(self) -> None:
        """Close the port."""
        if self._sweeping is not None:
            asyncio.get_running_loop().remove_reader(self._public)
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        for session in [*self._sessions.values()]:
            self._end(session)
        self._tell()
        self._public.close()

    def _from_clients(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, client = self._public.recvfrom(_LARGEST)
            except OSError:  # nothing more, or an earlier answer found its client gone
                return
            session = self._sessions.get(client) or self._begin(client)
            if session is not None and not self._sent(session, data):
                session = self._begin(client)  # its instance has gone since the last datagram
                if session is not None:
                    self._sent(session, data)
            if session is None:
                self._note_loss()

    def _note_loss(self) -> None:
        self._lost += 1
        if self._telling is None:
            self._tell()
            self._telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        lost, self._lost = self._lost, 0
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if lost:
            emit("endpoint.datagrams_lost", port=self.port, count=lost, reason="no instance is ready")

    def _begin(self, client: Any) -> _Session | None:
        backend = self._rotation.enter()
        if backend is None:
            return None
        try:
            connected = _connected(backend.address)
        except OSError:  # no way there, or no descriptor left: the datagram is lost
            self._rotation.leave(backend)
            return None
        session = self._sessions[client] = _Session(client, backend, connected, clock.monotonic())
        asyncio.get_running_loop().add_reader(connected, self._from_backend, session)
        if len(self._sessions) > self._most:
            self._end(next(iter(self._sessions.values())))
        return session

    def _sent(self, session: _Session, data: bytes) -> bool:
        self._touch(session)
        try:
            session.socket.send(data)
        except BlockingIOError:
            return True  # it is lost, as a datagram is where a queue is full
        except OSError:
            self._end(session)
            return False
        return True

    def _from_backend(self, session: _Session) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = session.socket.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there any more
                self._end(session)
                return
            self._touch(session)
            try:
                self._public.sendto(data, session.client)
            except OSError:
                return

    def _touch(self, session: _Session) -> None:
        session.used_at = clock.monotonic()
        self._sessions.move_to_end(session.client)

    def _end(self, session: _Session) -> None:
        del self._sessions[session.client]
        asyncio.get_running_loop().remove_reader(session.socket)
        session.socket.close()
        self._rotation.leave(session.backend)

    async def _sweep(self) -> None:
        while True:
            await clock.sleep(self._idle_seconds / 4)
            oldest = clock.monotonic() - self._idle_seconds
            for session in [*self._sessions.values()]:
                if session.used_at > oldest:
                    break
                self._end(session)


def _connected(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)  # noqa: FBT003 - the standard library's positional flag
    try:
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    public = socket.socket(family, socket.SOCK_DGRAM)
    try:
        public.bind((host, port))
        public.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    except OSError as error:
        public.close()
        raise RoleHostError(f"can't listen on {host} port {port} (udp): {error.strerror}") from error
    public.setblocking(False)  # noqa: FBT003 - the standard library's positional flag
    return public
