"""The sign-in page: it exchanges an API key for a cookie, so that browsers never keep the key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.responses import RedirectResponse

from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.authentication.sessions import is_at_home
from rolehost.frontend.problems import Problem, refusal
from rolehost.frontend.views import page
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from rolehost.frontend.authentication.authenticator import Authenticator

LARGEST_FORM = 8 * 1024
FORM = "application/x-www-form-urlencoded"
_OURS = re.compile(r"/(?!/)[!-\[\]-~]{0,2000}", re.ASCII)


@needs(Permission.OPEN)
async def show_sign_in(request: Request) -> Response:
    """The page."""
    _guard(request)
    return _page(request.query_params.get("next", ""))


@needs(Permission.OPEN)
async def sign_in(request: Request) -> Response:
    """Exchange a key for a cookie, and go on to the page that was asked for."""
    guard = _guard(request)
    fields = await _form(request)
    if _in_the_clear(request):
        return _page(fields.get("next", ""), status=400, in_the_clear=True)
    key = guard.ring.find(fields.get("key", "").strip())
    if key is None:
        return _page(fields.get("next", ""), problem=guard.failed(request.scope, "no such key, on the sign-in page"))
    emit("auth.signed_in", who=key.name, role=key.role)
    response = RedirectResponse(safe_next(fields.get("next", "")), 303, headers={"Cache-Control": "no-store"})
    guard.sessions.start(response, key, request.scope)
    return response


@needs(Permission.OPEN)
async def sign_out(request: Request) -> Response:
    """End the browser's session, and what it kept of the pages."""
    headers = {"Cache-Control": "no-store", "Clear-Site-Data": '"cache"'}
    response = RedirectResponse("/sign-in", 303, headers=headers)
    _guard(request).sessions.end(response, request.scope)
    return response


def safe_next(wanted: str) -> str:
    """Where to go on: an address of this site, whatever a link said."""
    if not _OURS.fullmatch(wanted) or wanted.startswith(("/sign-in", "/sign-out")):
        return "/"
    parts = urlsplit(wanted)
    return "/" if parts.scheme or parts.netloc else wanted


def _guard(request: Request) -> Authenticator:
    guard: Authenticator | None = request.app.state.guard
    if guard is None or not guard.signs_in:
        raise refusal(404, "not-found", "Nobody has to sign in here.")
    return guard


def _page(wanted: str, *, status: int = 200, problem: Problem | None = None, in_the_clear: bool = False) -> Response:
    return page(
        "sign_in.html",
        problem.status if problem else status,
        headers=problem.headers if problem else None,
        wanted=safe_next(wanted),
        problem=problem,
        in_the_clear=in_the_clear,
    )


def _in_the_clear(request: Request) -> bool:
    """Whether the page came over a network without TLS: the browser would not keep the cookie, others read along."""
    scheme = urlsplit(request.headers.get("origin", "")).scheme
    return scheme == "http" and not is_at_home(request.headers.get("host", ""))


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise refusal(415, "bad-request", f"This form is sent as {FORM}.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_FORM:
            raise refusal(413, "too-large", "This form is larger than it can be.")
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
    except ValueError:
        raise refusal(400, "bad-request", "This form has more fields than it can have.") from None
    return {name: values[0] for name, values in fields.items()}


ROUTES = (
    ("/sign-in", "GET", show_sign_in),
    ("/sign-in", "POST", sign_in),
    ("/sign-out", "POST", sign_out),
)
