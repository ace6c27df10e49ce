"""The outermost layer: each request is told as a fact, and no fault goes past it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from rolehost import clock
from rolehost.telemetry import emit
from rolehost.telemetry.tracing import HEADER, incoming

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Access:
    """ASGI middleware that emits `http.request.trace` for each request, and `http.failed` for each fault of ours.

    Args:
        app: what stands behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and tell of it."""
        if scope["type"] != "http":
            return
        began, status = clock.monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            with incoming(Headers(scope=scope).getlist(HEADER)):
                await self._app(scope, receive, watched)
        except ClientDisconnect:
            pass
        except Exception:
            emit("http.failed", method=scope["method"], path=scope["path"], error=traceback.format_exc())
            if status < 500:  # noqa: PLR2004 - no answer was begun, or one is cut off: the server closes the connection
                raise
        finally:
            seconds = round(clock.monotonic() - began, 4)
            emit("http.request.trace", method=scope["method"], path=scope["path"], status=status, seconds=seconds)
