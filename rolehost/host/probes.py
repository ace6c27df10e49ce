"""The bootstrapper's probes: `/healthz` (it lives) and `/readyz` (its instance takes requests), as JSON over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket

from rolehost.host.instance.status import InstanceState, InstanceStatus

_LONGEST_HEAD = 8192
_READ_SECONDS = 5.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def reserve_port(host: str, port: int = 0) -> socket.socket:
    """A socket that keeps a port without listening on it: who binds it by SO_REUSEPORT, as `Probes` do, may listen.

    Args:
        host: the address.
        port: the port; 0: a free one.
    """
    reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host, port))
    except OSError:
        reserved.close()
        raise
    return reserved


class Probes:
    """A minimal HTTP server: no framework, because a bootstrapper stays small.

    Args:
        status: what it answers.
        host: the address.
        port: the port; 0: a free one.
    """

    def __init__(self, status: InstanceStatus, host: str, port: int) -> None:
        self._status = status
        self._host = host
        self._port = port
        self.address = ""

    async def start(self) -> asyncio.Server:
        """Listen; `address` is then `host:port`."""
        listening = reserve_port(self._host, self._port)
        self._port = int(listening.getsockname()[1])
        self.address = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        return await asyncio.start_server(self._serve, sock=listening, limit=_LONGEST_HEAD)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # nobody is left to answer
        finally:
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, path, _ = [*head.split(b"\r\n", 1)[0].decode("latin-1").split(" "), "", "", ""][:3]
        code = self._code(method, path.split("?", 1)[0])
        facts = self._status.facts() if code in {200, 503} else {"error": _REASONS[code]}
        body = json.dumps(facts).encode() + b"\n"
        lines = (
            f"HTTP/1.1 {code} {_REASONS[code]}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        written = "\r\n".join(lines).encode() + b"\r\n\r\n"
        return written if method == "HEAD" else written + body

    def _code(self, method: str, path: str) -> int:
        if not path.startswith("/"):
            return 400
        if path not in {"/healthz", "/readyz"}:
            return 404
        if method not in {"GET", "HEAD"}:
            return 405
        return 200 if path == "/healthz" or self._status.state is InstanceState.READY else 503


async def ask(host: str, port: int, path: str = "/readyz") -> tuple[int, dict[str, str | int]] | None:
    """What the probe there answers: its code and facts; None if nobody does.

    Args:
        host: its address.
        port: its port.
        path: `/readyz` or `/healthz`.
    """
    try:
        async with asyncio.timeout(_READ_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                return int(head.split(b" ", 2)[1]), json.loads(body)
            finally:
                writer.close()
    except (OSError, ValueError, IndexError):
        return None
