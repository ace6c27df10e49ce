"""The HTTP below the clients: every request is counted, and none is waited for longer than the store deserves."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from azure.core.exceptions import (
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import AioHttpTransport

from rolehost import clock
from rolehost.errors import StoreUnavailableError
from rolehost.telemetry.transactions import count

CONNECT: Final = 8.0
SHORTEST: Final = 8.0
LONGEST: Final = 20.0
"""Seconds without a byte: a renewal that hangs must leave time for another before the lease is no longer trusted."""
_PATIENCE: Final = 10.0
_FORGET: Final = 0.9
_CONNECTIONS: Final = 64
_KEPT: Final = 3.0
"""Seconds that an idle connection is kept: fewer than a server does, or it closes one just as it is used again."""
_IN_PIECES: Final = 1024 * 1024  # a body beyond it would hold up the loop if it were written at once


class MeteredTransport(AioHttpTransport):  # type: ignore[misc]  # the SDK's lazy import hides its type
    """One service's connections.

    The time-out follows the service: ten times what its slow answers took of late, within bounds. A hung peer is
    noticed soon where answers take milliseconds, and a slow link is not mistaken for one.

    Args:
        service: what the requests are counted as.
        requests: where they are counted.
        url: the service's; the environment may name a proxy for it.
    """

    def __init__(self, service: str, requests: Counter[str], url: str) -> None:
        super().__init__(session=_session(_proxy(url)), connection_timeout=CONNECT, read_timeout=LONGEST)
        self._service = service
        self._requests = requests
        self._slow = LONGEST / _PATIENCE
        self._closed = False

    async def close(self) -> None:
        """Close all connections; nothing opens them again."""
        self._closed = True
        await super().close()

    async def send(self, request: Any, **config: Any) -> Any:
        """Send a request: a write once, for who asked decides what an error means."""
        try:
            return await self._once(request, **config)
        except (ServiceRequestError, ServiceResponseError) as error:
            # A kept connection may be closed while the request is under way. What only reads may be asked again.
            timed_out = isinstance(error, ServiceRequestTimeoutError | ServiceResponseTimeoutError)
            if timed_out or request.method not in {"GET", "HEAD"}:
                raise
            return await self._once(request, **config)

    async def _once(self, request: Any, **config: Any) -> Any:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        self._requests[self._service] += 1
        count(self._service, request.method, request.url)
        config.setdefault("connection_timeout", CONNECT)
        config.setdefault("read_timeout", min(max(self._slow * _PATIENCE, SHORTEST), LONGEST))
        began, body = clock.monotonic(), request.data
        if isinstance(body, bytes) and len(body) > _IN_PIECES:
            request.data = io.BytesIO(body)
        try:
            return await super().send(request, **config)
        finally:
            request.data = body  # a policy may send the request once more
            self._slow = max(clock.monotonic() - began, self._slow * _FORGET)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a service: `HTTPS_PROXY` and its kin.

    Left to the session, it would be looked up for each request, together with a password in `~/.netrc`, in two threads.
    """
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def _session(proxy: str | None) -> aiohttp.ClientSession:
    """A session as the SDK makes it, which never sends a write again by itself.

    The second of two deletions or conditional uploads is refused: to who asked it would look as if another had been
    faster. `test_azure_failures.py` holds the private name.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEPT),
        proxy=proxy,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    session._retry_connection = False  # noqa: SLF001 - there is no public way
    return session
