"""uvicorn's HTTP/1.1 with two habits more: it gives up heads that do not come, and refuses what is no HTTP as we do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from rolehost.frontend.headers import ALWAYS
from rolehost.frontend.problems import Problem, answer

if TYPE_CHECKING:
    import asyncio


def protocol(header_seconds: float) -> type[H11Protocol]:
    """The protocol's class, as uvicorn wants it.

    Args:
        header_seconds: the longest that a request's head may take.
    """

    class Protocol(_Protocol):
        patience = header_seconds

    return Protocol


class _Protocol(H11Protocol):
    patience: float
    _waiting: asyncio.TimerHandle | None = None
    _head = b""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._waiting = self.loop.call_later(self.patience, transport.close)

    def data_received(self, data: bytes) -> None:
        if self._between():
            self._head = self.conn.trailing_data[0] + data
        super().data_received(data)
        between = self._between()
        if not between and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif between and self._waiting is None:
            self._waiting = self.loop.call_later(self.patience, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:  # else an answer has begun, and can only be cut off
            for event in _refused(msg, self._head):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _between(self) -> bool:
        """Whether no request is being worked on."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete


def _refused(message: str, head: bytes) -> tuple[h11.Event, ...]:
    """The answer to what is no HTTP: a problem below `/api/`, else a page."""
    words = head.partition(b"\n")[0].split()
    path = unquote(words[1].partition(b"?")[0]) if len(words) > 1 else "/"
    response = answer(Problem(status=400, kind="bad-request", detail=message), path)
    for name, value in (ALWAYS | {"Connection": "close"}).items():
        response.headers[name] = value
    started = h11.Response(status_code=400, headers=response.raw_headers, reason=b"Bad Request")
    return started, h11.Data(data=bytes(response.body)), h11.EndOfMessage()
