"""Which names of this service a request may use: what a browser is tricked into by DNS rebinding is not answered.

A page of another site can give its own name the address 127.0.0.1; to the browser the answers are then that site's.
Only the request's Host tells it from a request of ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.loopback import is_loopback
from rolehost.frontend.problems import Problem, answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ANY = "*"
SETTING = "Frontend.AllowedHosts"
_HOST = re.compile(r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE)


def name_of(host: str) -> str:
    """The name in a Host header, in lower case and without port, brackets and last dot; empty if it is none."""
    found = _HOST.fullmatch(host)
    return found[1].lower().strip("[]").removesuffix(".") if found else ""


def allowed_hosts(setting: str, host: str) -> frozenset[str] | None:
    """The names that may be used beside those of the loopback; None for any.

    Args:
        setting: names, comma separated, `*` for any; empty for the default, which is none beside the loopback's own
            while the service listens there, and any elsewhere.
        host: the address where clients connect to the service.

    Raises:
        RoleEnvironmentError: the setting holds what is no name of a host.
    """
    given = [part.strip() for part in setting.split(",") if part.strip()]
    if ANY in given:
        return None
    if not given:
        return frozenset() if is_loopback(host) else None
    for text in given:
        found = _HOST.fullmatch(text)
        if found is None or found[2]:
            raise RoleEnvironmentError(f"the setting {SETTING} names hosts without scheme and port, not {text!r}")
    return frozenset(name_of(text) for text in given)


class HostGuard:
    """ASGI middleware that answers 421 to a request for a host that is none of ours.

    Args:
        app: what stands behind it.
        allowed: names that may be used beside those of the loopback; None for any.
    """

    def __init__(self, app: ASGIApp, allowed: frozenset[str] | None) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or answer it."""
        host = Headers(scope=scope).get("host")  # without one it is an old program's: browsers always send it
        name = name_of(host or "")
        if self._allowed is None or host is None or name in self._allowed or is_loopback(name):
            await self._app(scope, receive, send)
            return
        told = f"This service does not answer under this name; the setting {SETTING} can allow it."
        problem = Problem(status=421, kind="unknown-host", detail=told)
        await answer(problem, scope["path"])(scope, receive, send)
