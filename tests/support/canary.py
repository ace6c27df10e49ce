"""A canary that must not be asked, an outer server in the internet's place, and names that mean what a test says."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from rolehost.outbound import Answer, Found, Outbound, Rules

INNER = "127.0.0.1"
OUTER = "127.0.0.2"  # in the place of the public internet
USUAL = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"

NOT_PUBLIC = [
    *("127.0.0.1", "127.0.0.9", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
    "0.0.0.0",  # noqa: S104 - nothing listens there
    *("100.64.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "168.63.129.16", "192.0.0.8"),
    *("198.18.0.1", "192.0.2.1", "198.51.100.7", "203.0.113.9", "192.88.99.1"),
    *("::1", "::", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "::ffff:127.0.0.1"),
    *("::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1"),
    *("3fff::1", "2a01:111:2000::5efe:7f00:1", "2a01:111:2000:0:200:5efe:a00:1", "100::1", "5f00::1", "4000::1"),
]
"""Addresses that are not of the public internet, whatever `ipaddress` says."""


@dataclass
class Server:
    """A server that keeps what it was asked, and answers as it is told.

    Args:
        connections: how many there were, whether anything was asked or not.
    """

    port: int = 0
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    endless: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            path = head.split()[1].partition("?")[0]
            writer.write(self.answers.get(path, USUAL))
            while self.endless:
                writer.write(bytes(65536))
                await writer.drain()
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        writer.close()

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        """Answer with a redirect."""
        self.answers[path] = f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()

    def status(self, path: str, status: int) -> None:
        """Answer with a status alone."""
        self.answers[path] = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()

    def content(self, path: str, content: bytes) -> None:
        """Answer with content."""
        self.answers[path] = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


@asynccontextmanager
async def listening(host: str, port: int = 0) -> AsyncIterator[Server]:
    """A server on a port of its own, or on this one."""
    server = Server()
    listener = await asyncio.start_server(server.serve, host, port)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server


@dataclass
class Net:
    """An inner canary and an outer server on one port number, and rules that allow the outer one only."""

    canary: Server
    outer: Server
    names: dict[str, Callable[[], Sequence[str]]]
    rules: Rules

    @property
    def outbound(self) -> Outbound:
        """A client under the rules."""
        return Outbound(self.rules, self.look_up)

    async def look_up(self, host: str, port: int, _family: int) -> Sequence[Found]:
        """In the place of the system's resolver."""
        addresses = self.names[host]() if host in self.names else []
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    async def fetch(self, url: str) -> tuple[int, bytes]:
        """Status and content of what is at a URL."""
        async with self.outbound.get(url) as answer:
            return answer.status, await everything(answer)

    def url(self, host: str, path: str = "/") -> str:
        """A URL on the port of both."""
        return f"http://{host}:{self.outer.port}{path}"


async def everything(answer: Answer) -> bytes:
    """All content of an answer."""
    return b"".join([piece async for piece in answer.pieces])


@asynccontextmanager
async def guarded_net() -> AsyncIterator[Net]:
    """A net whose canary an allowed fetch was just seen to reach, and nothing else is seen to reach."""
    async with _two_servers() as (canary, outer):
        allowed = (ipaddress.ip_network(f"{OUTER}/32"),)
        rules = Rules(networks=allowed, ports=frozenset({canary.port}), deadline=5.0)
        net = Net(canary, outer, {"outer.example": lambda: [OUTER]}, rules)
        # The canary can be reached: only the rules keep a fetch from it.
        open_to_it = replace(rules, networks=(ipaddress.ip_network("127.0.0.0/8"),))
        async with Outbound(open_to_it, net.look_up).get(net.url(INNER)) as answer:
            assert await everything(answer) == b"hello"
        assert canary.connections == 1
        yield net
        assert canary.connections == 1, "nothing but the first, allowed fetch reached it"


@asynccontextmanager
async def _two_servers() -> AsyncIterator[tuple[Server, Server]]:
    """Both on one port number; where the second address has it taken already, on another one."""
    for _ in range(20):
        async with listening(INNER) as canary:
            try:
                listener = listening(OUTER, canary.port)
                outer = await listener.__aenter__()
            except OSError:
                continue
            try:
                yield canary, outer
            finally:
                await listener.__aexit__(None, None, None)
            return
    raise AssertionError("no port number is free on both addresses")
