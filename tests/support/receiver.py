"""Somebody who is told of jobs' ends: a real HTTP server on this machine, and the rules that allow it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from rolehost.jobs.webhook_settings import WebhookSettings

KEY = b"a secret of the tests, 32 bytes."
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


@dataclass(frozen=True)
class Told:
    """One delivery as it came.

    Args:
        path: that was asked.
        headers: by names in small letters.
        body: as it was signed.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """What receivers tell repetitions by."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """The body."""
        event: dict[str, Any] = json.loads(self.body)
        return event

    def is_signed_by(self, key: bytes) -> bool:
        """Whether one of the signatures is made with a key, checked as Standard Webhooks says."""
        signed = b".".join((self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body))
        made = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return f"v1,{made}" in self.headers["webhook-signature"].split(" ")


@dataclass
class Receiver:
    """A server that keeps what it was told.

    Args:
        port: where it listens.
        told: every delivery, in order.
        answers: statuses of the next answers; 200 once there are none.
        open: no answer comes while this is not set.
        waiting: requests that came, answered or not.
    """

    port: int = 0
    told: list[Told] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """A URL of it, with a secret of its own in the path."""
        return f"http://127.0.0.1:{self.port}/hooks/of-ours"

    def settings(self, **more: Any) -> WebhookSettings:
        """Settings under which it may be told."""
        facts: dict[str, Any] = {
            "secrets": (KEY,),
            "networks": (ip_network("127.0.0.1/32"),),
            "schemes": frozenset({"http"}),
            "ports": frozenset({self.port}),
        }
        return WebhookSettings(**{**facts, **more})

    def role_settings(self, **more: str) -> dict[str, str]:
        """The same, as a role's settings."""
        return {
            "Webhooks.Secrets": SECRET,
            "Webhooks.AllowedNetworks": "127.0.0.1/32",
            "Webhooks.AllowedSchemes": "http",
            "Webhooks.AllowedPorts": str(self.port),
            **{f"Webhooks.{name}": value for name, value in more.items()},
        }

    def variables(self, **more: str) -> dict[str, str]:
        """The same, as variables of the environment."""
        return {
            f"ROLEHOST_SETTING_{name.replace('.', '__')}": value for name, value in self.role_settings(**more).items()
        }

    async def receives(self, count: int = 1, within: float = 20.0) -> list[Told]:
        """Wait for so many deliveries."""
        async with asyncio.timeout(within):
            while len(self.told) < count:
                self._came.clear()
                await self._came.wait()
        return self.told

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.waiting += 1
            await self.open.wait()
            self.told.append(Told(first.split()[1], headers, body))
            self._came.set()
            status = self.answers.pop(0) if self.answers else 200
            writer.write(f"HTTP/1.1 {status} X\r\nLocation: {self.url}/on\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers at once."""
    made = Receiver()
    made.open.set()
    listener = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.open.set()
        listener.close()
