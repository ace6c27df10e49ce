"""Limits of a request's body, held before anything reads it: size, time, coding."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from rolehost import clock
from rolehost.frontend.problems import Problem, answer, refusal
from rolehost.frontend.views import human_size

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from rolehost.frontend.settings import FrontendSettings

FORM_PATH = "/jobs"
LONGEST_HEAD = 32 * 1024
LINGER_SECONDS = 2.0
LINGER_BYTES = 64 * 1024


class BodyLimits:
    """ASGI middleware around `receive`.

    A body whose declared length is over the cap is answered before any of it is read; one of unknown length is cut at
    the cap; one that comes too slowly gets 408. Whatever is answered before a body has come to its end closes the
    connection, because the rest of the body would stand in the way of the next request: it is held open for a moment
    more, since closing it under a client that still sends would take the answer away from the client.

    Args:
        app: what stands behind it.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, settings: FrontendSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its limits, or answer it."""
        headers = Headers(scope=scope)
        cap = self._settings.form_cap if scope["path"] == FORM_PATH else self._settings.upload_cap
        body = _Body(self._settings, cap, receive, send, whole=not _has_body(headers))
        if problem := _too_long_a_head(scope) or _at_once(headers, cap):
            await answer(problem, scope["path"])(scope, body.receive, body.send)
        else:
            await self._app(scope, body.receive, body.send)


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _too_long_a_head(scope: Scope) -> Problem | None:
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size + len(scope.get("raw_path") or b"") + len(scope["query_string"]) <= LONGEST_HEAD:
        return None
    return Problem(
        status=431, kind="head-too-large", detail="The request's head is too large.", headers={"Connection": "close"}
    )


def _at_once(headers: Headers, cap: int) -> Problem | None:
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"", "identity"}:
        told = "A body with a Content-Encoding is not accepted: send it as it is."
        return Problem(status=415, kind="content-encoding", detail=told, headers={"Accept-Encoding": "identity"})
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length[:20]) > cap:
        return Problem(status=413, kind="too-large", detail=_too_large(cap))
    return None


def _too_large(cap: int) -> str:
    return f"The request is larger than the {human_size(cap)} that are accepted."


class _Body:
    """One request's body: what has come of it, and how long the rest may take."""

    def __init__(self, settings: FrontendSettings, cap: int, receive: Receive, send: Send, *, whole: bool) -> None:
        self._settings = settings
        self._cap = cap
        self._receive = receive
        self._send = send
        self._whole = whole
        self._came = 0
        self._began = clock.monotonic()

    async def receive(self) -> Message:
        """The next message of the client."""
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._deadline() - clock.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise refusal(408, "too-slow", "The request's body did not come in time.") from None
        self._came += len(message.get("body", b""))
        self._whole = message["type"] == "http.request" and not message.get("more_body", False)
        if self._came > self._cap:
            self._whole = False
            raise refusal(413, "too-large", _too_large(self._cap))
        return message

    def _deadline(self) -> float:
        limits = self._settings
        return self._began + min(limits.body_seconds, limits.grace_seconds + self._came / limits.slowest)

    async def send(self, message: Message) -> None:
        """An answer's message."""
        if self._whole:
            await self._send(message)
        elif message["type"] == "http.response.start":
            await self._send({**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]})
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        """Wait until the client has sent what it had in hand, or has gone; never for much of either."""
        threw_away = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while threw_away < LINGER_BYTES:
                    message = await self._receive()
                    threw_away += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
                await asyncio.sleep(LINGER_SECONDS)
