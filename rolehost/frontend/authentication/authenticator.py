"""Who sends a request, and whether he may: asked of every request before anything of its body is read.

Beyond the loopback nothing is answered without it: the front end refuses to start where nobody could be known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse

from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.attempts import Attempts
from rolehost.frontend.authentication import settings as names
from rolehost.frontend.authentication.identity import (
    LOCAL,
    NOBODY,
    Identity,
    KeysUnavailableError,
    Permission,
    RefusedTokenError,
    acting,
)
from rolehost.frontend.authentication.keys import PREFIX, KeyRing
from rolehost.frontend.authentication.permissions import every_route, needed
from rolehost.frontend.authentication.proxy import TrustedProxy
from rolehost.frontend.authentication.sessions import SECRET_FILE, Sessions
from rolehost.frontend.authentication.unguarded import is_unguarded, keys_file, unguarded
from rolehost.frontend.hook_path import is_hook
from rolehost.frontend.loopback import is_loopback
from rolehost.frontend.origin import SAFE
from rolehost.frontend.problems import API, Problem, answer
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import BaseRoute, Router
    from starlette.types import ASGIApp, Receive, Scope, Send

    from rolehost.frontend.authentication.settings import AuthenticationSettings
    from rolehost.frontend.authentication.tokens import Tokens

REALM = 'Bearer realm="rolehost"'
SIGN_IN = "/sign-in"


class RefusedError(Exception):
    """A request is not answered, and with what problem instead."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """Knows clients by what they send.

    Args:
        ring: API keys; without any there is no sign-in page.
        sessions: those of the sign-in page.
        tokens: bearer tokens; None: none are accepted.
        proxy: a proxy that is believed; None: none is.
        attempts: who was wrong how often.
    """

    ring: KeyRing
    sessions: Sessions
    tokens: Tokens | None
    proxy: TrustedProxy | None
    attempts: Attempts

    @property
    def signs_in(self) -> bool:
        """Whether there is anything that the sign-in page could take."""
        return bool(self.ring)

    async def identity(self, scope: Scope) -> Identity:
        """Who sends a request; nobody, where it says nothing.

        Raises:
            RefusedError: what it says is not so, or can't be known now.
        """
        headers = Headers(scope=scope)
        told = headers.getlist("authorization")
        proxied = self.proxy.identity(scope) if self.proxy is not None else None
        if proxied is not None and not any(PREFIX in value for value in told):
            return proxied  # a token that stands beside it was for the proxy, which has judged it
        if told:
            return await self._bearer(scope, told)
        return self.sessions.identity(scope) or NOBODY

    async def _bearer(self, scope: Scope, values: list[str]) -> Identity:
        scheme, _, told = values[0].partition(" ")
        told = told.strip()
        if len(values) > 1 or scheme.casefold() != "bearer" or not told:
            raise RefusedError(self.failed(scope, "it is no bearer token"))
        if told.startswith(PREFIX):
            if (key := self.ring.find(told)) is None:
                raise RefusedError(self.failed(scope, "no such key"))
            return Identity(name=key.name, role=key.role, how="key")
        if self.tokens is None:
            raise RefusedError(self.failed(scope, "no such key, and tokens are not accepted"))
        try:
            return await self.tokens.identity(told)
        except RefusedTokenError as error:
            raise RefusedError(self.failed(scope, str(error))) from None
        except KeysUnavailableError:
            told = "Who you are can't be checked now: the issuer of the token does not answer."
            raise RefusedError(
                Problem(status=503, kind="issuer-unavailable", detail=told, headers={"Retry-After": "30"})
            ) from None

    def failed(self, scope: Scope, reason: str) -> Problem:
        """Count a wrong key or token, and what to say to it."""
        address = str((scope.get("client") or ("unknown",))[0])
        wait = self.attempts.failed(address)
        if wait:
            told = "There were too many wrong keys; a good one is accepted at once."
            return Problem(
                status=429, kind="too-many-attempts", detail=told, headers={"Retry-After": f"{wait + 1:.0f}"}
            )
        emit("auth.refused", address=address, path=scope["path"], reason=reason[:200])
        detail = "This key or token is not accepted."
        headers = {"WWW-Authenticate": f'{REALM}, error="invalid_token"', "Cache-Control": "no-store"}
        return Problem(status=401, kind="not-authenticated", detail=detail, headers=headers)


def authenticator(
    settings: AuthenticationSettings, data: Path | None, *, addresses: tuple[str, ...], relayed: bool = False
) -> Authenticator | None:
    """What the settings ask for; None where nobody needs to be known.

    Args:
        settings: of authentication.
        data: the data directory, if there is one.
        addresses: `host:port` where the front end can be reached.
        relayed: a load balancer of the host's stands in front, so that every client has its address.

    Raises:
        RoleEnvironmentError: the settings can't be held, or there are none and others than this machine reach us.
    """
    ring = KeyRing(settings.keys, keys_file(settings, data))
    if settings.keys_file and not ring:
        raise RoleEnvironmentError(f"the setting {names.KEYS_FILE} names {settings.keys_file}, which holds no key")
    if settings.proxies and relayed:
        raise RoleEnvironmentError(
            f"the setting {names.TRUSTED_PROXIES} can't be held here: the host's load balancer stands between, so that "
            "all clients have its address; run the role by `rolehost run`, or use keys or tokens"
        )
    if is_unguarded(settings, data):
        if far := [address for address in addresses if not is_loopback(address.rpartition(":")[0].strip("[]"))]:
            raise RoleEnvironmentError(unguarded(far[0]))
        return None
    named = settings.session_secret_file
    secret = Path(named) if named else data / SECRET_FILE if data else None
    return Authenticator(
        ring=ring,
        sessions=Sessions(ring, hours=settings.session_hours, path=secret, made=not named),
        tokens=_tokens(settings) if settings.issuer else None,
        proxy=TrustedProxy(settings) if settings.proxies else None,
        attempts=Attempts(),
    )


def _tokens(settings: AuthenticationSettings) -> Tokens:
    from rolehost.frontend.authentication.tokens import Tokens  # noqa: PLC0415 - its libraries are heavy, and seldom needed

    return Tokens(settings)


class Authentication:
    """ASGI middleware: what a client may not do is answered here, before anything of the body is read.

    Args:
        app: what stands behind it.
        router: its routes, with the permissions that they declare.
        guard: knows the clients; None: everybody is local, and may do everything.
    """

    def __init__(self, app: ASGIApp, router: Router, guard: Authenticator | None) -> None:
        self._app = app
        self._router = router
        self._guard = guard

    @cached_property
    def _routes(self) -> list[BaseRoute]:
        return every_route(self._router.routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or answer it."""
        who, refused = LOCAL, None
        if is_hook(scope["path"]):
            who = NOBODY  # what stands in its headers is its hook's own proof
        elif self._guard is not None:
            who, refused = await self._judged(self._guard, scope)
        with acting(who):
            app = self._app if refused is None else _answered(refused, scope, self._guard)
            await app(scope, receive, send)

    async def _judged(self, guard: Authenticator, scope: Scope) -> tuple[Identity, Problem | None]:
        """Who sends a request, and why it is not answered, if it is not."""
        permission = needed(self._routes, scope)
        try:
            who = await guard.identity(scope)
        except RefusedError as error:
            return NOBODY, None if permission is Permission.OPEN else error.problem
        if permission is Permission.OPEN:
            return who, None
        if who.how == "nobody":
            detail = "Say who you are: send an API key or a token, as in `Authorization: Bearer ...`."
            headers = {"WWW-Authenticate": REALM, "Cache-Control": "no-store"}
            return who, Problem(status=401, kind="not-authenticated", detail=detail, headers=headers)
        if not who.may(permission):
            return who, _forbidden(who, permission)
        if scope["method"] not in SAFE:
            if who.how == "session" and not _tells_origin(scope):
                detail = "A browser says from which page a request comes; this one does not. Programs send a key."
                return who, Problem(status=403, kind="cross-site", detail=detail)
            emit("auth.acting", who=who.name, role=who.role, how=who.how, method=scope["method"], path=scope["path"])
        return who, None


def _forbidden(who: Identity, permission: Permission) -> Problem:
    yours = "no role here" if who.role is Permission.OPEN else f"the role {who.role}"
    detail = f"This needs the role {permission}; {who.name or 'you'}, as you are known here, has {yours}."
    return Problem(status=403, kind="not-permitted", detail=detail, headers={"Cache-Control": "no-store"})


def _tells_origin(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return "sec-fetch-site" in headers or "origin" in headers


def _answered(problem: Problem, scope: Scope, guard: Authenticator | None) -> Response:
    """A refusal; a person who only has to sign in is shown where."""
    looks = scope["method"] in {"GET", "HEAD"} and "text/html" in Headers(scope=scope).get("accept", "")
    to_sign_in = problem.status == 401 and guard is not None and guard.signs_in  # noqa: PLR2004 - Unauthorized
    if looks and to_sign_in and not scope["path"].startswith(API):
        query = scope["query_string"].decode("latin-1")
        wanted = quote(scope["path"]) + (f"?{query}" if query else "")
        return RedirectResponse(f"{SIGN_IN}?next={quote(wanted, safe='')}", 303, headers={"Cache-Control": "no-store"})
    return answer(problem, scope["path"])
