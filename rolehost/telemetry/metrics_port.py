"""`/metrics` on a port of its own: what counts never stands beside what the public can reach."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rolehost.errors import RoleEnvironmentError, StoreError
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.telemetry.metrics import Metrics

PORT = "Telemetry.MetricsPort"
ADDRESS = "Telemetry.MetricsAddress"
LOOPBACK = "127.0.0.1"
TRIED = 64
"""Instances on one machine that have the same setting: each takes the first port that is free from there."""
LONGEST_HEAD = 8192
PATIENCE = 5.0

Backlog = Callable[[], Awaitable[dict[str, Any]]]


class _Settings(Protocol):
    """A role environment, as far as it is needed here."""

    @property
    def is_available(self) -> bool:
        """Whether there is one."""

    def get_configuration_setting_value(self, name: str) -> str:
        """A setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Where the numbers are read.

    Args:
        port: the first port that is tried; None: nowhere.
        address: the address; the loopback's by default, since nobody has to say who he is there.
    """

    port: int | None = None
    address: str = LOOPBACK

    @classmethod
    def read(cls, environment: _Settings) -> MetricsSettings:
        """The settings of a role environment.

        Raises:
            RoleEnvironmentError: the port is none.
        """
        if not environment.is_available:
            return cls()
        text = _text(environment, PORT)
        if text and not (text.isascii() and text.isdigit() and int(text[:6]) < 1 << 16):
            raise RoleEnvironmentError(f"the setting {PORT} must be a port, not {text!r}")
        return cls(port=int(text) if text else None, address=_text(environment, ADDRESS) or LOOPBACK)


def _text(environment: _Settings, name: str) -> str:
    try:
        return environment.get_configuration_setting_value(name).strip()
    except RoleEnvironmentError:
        return ""


@asynccontextmanager
async def metrics_port(
    settings: MetricsSettings, *, instance: str = "", backlog: Backlog | None = None
) -> AsyncIterator[str]:
    """Count, and answer `/metrics`, for as long as the block lasts; nothing is loaded where no port is set.

    Args:
        settings: where.
        instance: the instance's id.
        backlog: what waits and runs, asked at each reading, and answered at `/scale`; None: not known here.

    Returns:
        `host:port`; empty where there is none. That a port can't be had is told, and stops no work.
    """
    listening = _listen(settings)
    if listening is None:
        yield ""
        return
    from rolehost.telemetry.metrics import Metrics  # noqa: PLC0415 - 40 ms that most processes never need

    metrics = Metrics(instance=instance)
    stop = metrics.follow()
    server = await asyncio.start_server(_Port(metrics, backlog).serve, sock=listening, limit=LONGEST_HEAD)
    host, port = listening.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    emit("metrics.listening", address=address)
    try:
        yield address
    finally:
        server.close()
        stop()


def _listen(settings: MetricsSettings) -> socket.socket | None:
    if settings.port is None:
        return None
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    reason = ""
    for port in range(settings.port, min(settings.port + TRIED, 1 << 16)):
        try:
            return socket.create_server((settings.address, port), family=family)
        except OSError as error:
            reason = str(error)
            if error.errno != errno.EADDRINUSE:
                break
    emit("metrics.not_listening", address=settings.address, port=settings.port, reason=reason)
    return None


class _Port:
    """A minimal HTTP server: a scrape every few seconds."""

    def __init__(self, metrics: Metrics, backlog: Backlog | None) -> None:
        self._metrics = metrics
        self._backlog = backlog

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head))
                await writer.drain()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # nobody is left to answer
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> bytes:
        method, path, _ = [*head.split(b"\r\n", 1)[0].decode("latin-1").split(" "), "", "", ""][:3]
        path = path.partition("?")[0]
        if path not in {"/metrics", "/scale"} or (path == "/scale" and self._backlog is None):
            return _written(method, "404 Not Found", "text/plain", b"there is /metrics here\n")
        if method not in {"GET", "HEAD"}:
            return _written(method, "405 Method Not Allowed", "text/plain", b"")
        waiting = await self._asked()
        if path == "/scale":
            status = "503 Service Unavailable" if waiting is None else "200 OK"
            return _written(method, status, "application/json", json.dumps(waiting or {}).encode() + b"\n")
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest  # noqa: PLC0415 - as above

        body = generate_latest(self._metrics.registry) + _gauges(waiting)
        return _written(method, "200 OK", CONTENT_TYPE_PLAIN_0_0_4, body)

    async def _asked(self) -> dict[str, Any] | None:
        """The backlog; None where the stores don't tell in time."""
        if self._backlog is None:
            return None
        try:
            async with asyncio.timeout(PATIENCE / 2):
                return await self._backlog()
        except (TimeoutError, StoreError):
            return None


def _gauges(waiting: dict[str, Any] | None) -> bytes:
    """The backlog as gauges: read from the stores now, so kept in no registry."""
    if waiting is None:
        return b""
    from prometheus_client import CollectorRegistry, Gauge  # noqa: PLC0415 - as above
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415 - as above

    registry = CollectorRegistry()
    for name, told, key in (
        ("rolehost_backlog_runnable", "Jobs that could be claimed now, in the whole service.", "runnable"),
        ("rolehost_backlog_in_flight", "Jobs that run, in the whole service.", "in_flight"),
        ("rolehost_backlog_oldest_seconds", "How long the oldest of the runnable jobs has waited.", "oldest_seconds"),
    ):
        Gauge(name, told, registry=registry).set(waiting[key])
    return generate_latest(registry)


def _written(method: str, status: str, media_type: str, body: bytes) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    )
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head if method == "HEAD" else head + body
