"""Requests that change something come from our own pages, or from programs; never from another site's page.

Every current browser says where a request comes from: by `Sec-Fetch-Site`, else by `Origin`. A request with neither
is a program's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from rolehost.frontend.hook_path import is_hook
from rolehost.frontend.problems import Problem, answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
OUR_OWN = frozenset({"same-origin", "none"})  # `none`: the person typed the address
PORTS = {"http": 80, "https": 443}


class OriginGuard:
    """ASGI middleware that answers 403 to what another site's page sends.

    Args:
        app: what stands behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or answer it."""
        # A hook's sender proves itself, and CloudEvents has it name an origin of its own.
        if scope["method"] in SAFE or is_hook(scope["path"]) or comes_from_here(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        problem = Problem(status=403, kind="cross-site", detail="This request was sent by the page of another site.")
        await answer(problem, scope["path"])(scope, receive, send)


def comes_from_here(headers: Headers) -> bool:
    """Whether a request that changes something may do so."""
    if sites := headers.getlist("sec-fetch-site"):
        return all(site in OUR_OWN for site in sites)
    return all(_names_host(origin, headers.get("host", "")) for origin in headers.getlist("origin"))


def _names_host(origin: str, host: str) -> bool:
    """Whether an origin's host and port are those that the request was sent to.

    Schemes are not compared: behind a proxy that ends TLS the page's is `https` and ours `http`.
    """
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        default = PORTS.get(theirs.scheme)
        return (
            default is not None
            and bool(theirs.hostname)
            and theirs.hostname == ours.hostname
            and (theirs.port or default) == (ours.port or default)
        )
    except ValueError:
        return False
