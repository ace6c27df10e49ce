"""`/healthz` and `/readyz`: the bootstrapper's answers, passed on, so that one port serves people and probes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from rolehost.errors import StoreError
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs

if TYPE_CHECKING:
    from starlette.requests import Request

    from rolehost.frontend.services import Services

PATIENCE = 2.0
LONGEST_ANSWER = 64 * 1024
NO_STORE = {"Cache-Control": "no-store"}


@needs(Permission.OPEN)
async def relay(request: Request) -> Response:
    """Answer a probe as the bootstrapper does, or as one alone where there is no bootstrapper."""
    services: Services = request.app.state.services
    path = request.url.path
    if services.probe is None:
        return await _alone(services, path)
    try:
        async with asyncio.timeout(PATIENCE):
            status, body = await _ask(services.probe, path)
    except (TimeoutError, OSError, ValueError):
        return JSONResponse({"status": "unreachable"}, 503, headers=NO_STORE)
    return Response(body, status, headers=NO_STORE, media_type="application/json")


async def _alone(services: Services, path: str) -> Response:
    if path == "/readyz":
        try:
            async with asyncio.timeout(PATIENCE):
                await services.jobs.counts()
        except (TimeoutError, StoreError):
            return JSONResponse({"status": "store unavailable"}, 503, headers=NO_STORE)
    return JSONResponse({"status": "ok"}, headers=NO_STORE)


async def _ask(probe: str, path: str) -> tuple[int, bytes]:
    host, _, port = probe.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {probe}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer) < LONGEST_ANSWER and (piece := await reader.read(LONGEST_ANSWER - len(answer))):
            answer += piece
    finally:
        writer.close()
    head, divider, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if divider else 0
    if not 200 <= status <= 599:  # noqa: PLR2004 - what an answer may be
        raise ValueError("that is no answer of a probe")
    return status, body
