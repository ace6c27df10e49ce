"""uvicorn as a role runs it: on a socket that is there already, without signal handlers, told to stop by an event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from rolehost.frontend.limits import LONGEST_HEAD
from rolehost.frontend.protocol import protocol
from rolehost.telemetry import emit

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

    from rolehost.frontend.settings import FrontendSettings

KEEP_ALIVE_SECONDS = 15


class _Server(uvicorn.Server):
    """Signals are the host's business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _FactsHandler(logging.Handler):
    """uvicorn's warnings as facts."""

    def emit(self, record: logging.LogRecord) -> None:
        emit("http.server_warning", message=record.getMessage())


async def serve(app: ASGIApp, listening: socket.socket, stopping: asyncio.Event, settings: FrontendSettings) -> None:
    """Serve until `stopping` is set; then take no more connections and finish the requests in flight.

    Args:
        app: the application.
        listening: a listening socket; it is closed in the end.
        stopping: set by the host.
        settings: how long a head may take, and how long requests in flight may go on.
    """
    config = uvicorn.Config(
        app,
        http=protocol(settings.header_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    server = _Server(config)
    with _quiet():
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        waiting = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            server.should_exit = True
            await serving


@contextmanager
def _quiet() -> Iterator[None]:
    """Uvicorn's logger writes no lines of its own meanwhile."""
    logger = logging.getLogger("uvicorn")
    handler = _FactsHandler(logging.WARNING)
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate, level = before
        logger.setLevel(level)
