"""The ASGI application: pages, API, probes and static files, behind the layers that hold the limits."""

from __future__ import annotations

from os import PathLike, stat_result
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.staticfiles import StaticFiles

from rolehost._version import __version__
from rolehost.errors import RoleHostError
from rolehost.frontend import api, hook_api, openapi, pages
from rolehost.frontend.access import Access
from rolehost.frontend.authentication import sign_in
from rolehost.frontend.authentication.authenticator import Authentication, Authenticator
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import declare
from rolehost.frontend.headers import HeadAsGet, SafeHeaders
from rolehost.frontend.hosts import HostGuard
from rolehost.frontend.limits import BodyLimits
from rolehost.frontend.origin import OriginGuard
from rolehost.frontend.probes import relay
from rolehost.frontend.problems import answer, problem_of
from rolehost.frontend.services import Services
from rolehost.frontend.settings import FrontendSettings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Scope

    from rolehost.frontend.spool import Spool
    from rolehost.jobs.batches.driver import BatchDriver
    from rolehost.jobs.webhooks import Webhooks
    from rolehost.stores import Stores

ABOUT = (
    "Submit files, watch the jobs, fetch the results; look after the service's instances. "
    "Every error is a problem as in RFC 9457."
)


def create_app(
    stores: Stores,
    spool: Spool,
    *,
    settings: FrontendSettings | None = None,
    probe: str | None = None,
    hosts: frozenset[str] | None = None,
    instance: str = "",
    guard: Authenticator | None = None,
    webhooks: Webhooks | None = None,
    driver: BatchDriver | None = None,
) -> ASGIApp:
    """The front end over stores.

    Args:
        stores: where the jobs are.
        spool: where uploads wait.
        settings: caps and deadlines.
        probe: host:port of the bootstrapper's probes, whose answers are passed on.
        hosts: names that requests may use beside the loopback's; None for any.
        instance: the id of the instance that answers.
        guard: knows the clients; None: whoever reaches us may do everything.
        webhooks: tells others of the jobs that are cancelled here; None: recovery does.
        driver: drives batches; None: others do.
    """
    settings = settings or FrontendSettings()
    app = routes(settings)
    app.state.services = Services.over(stores, settings, spool, probe, instance, webhooks=webhooks, driver=driver)
    app.state.guard = guard
    app.state.hooks = hook_api.Hooks(settings.hooks, settings.hook_secrets)
    guarded = OriginGuard(Authentication(app, app.router, guard))
    return Access(SafeHeaders(HeadAsGet(BodyLimits(HostGuard(guarded, hosts), settings))))


def routes(settings: FrontendSettings) -> FastAPI:
    """All that is answered, without the layers around it; each route declares the permission that it needs."""
    app = FastAPI(
        title="rolehost",
        version=__version__,
        description=ABOUT,
        openapi_url=f"{api.PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for route in app.router.routes:  # the framework's own: the document of the API
        declare(route.endpoint, Permission.READ)  # type: ignore[attr-defined] # they are routes with endpoints
    app.include_router(api.router)
    app.include_router(hook_api.router)
    openapi.complete(app, settings)
    for path, method, endpoint in (*pages.ROUTES, *sign_in.ROUTES):
        app.add_route(path, endpoint, methods=[method], include_in_schema=False)
    for path in ("/healthz", "/readyz"):
        app.add_route(path, relay, methods=["GET"], include_in_schema=False)
    app.mount("/static", _KeptFiles(packages=[("rolehost.frontend", "static")]), name="static")
    for class_ in (HTTPException, RequestValidationError, RoleHostError, Exception):
        app.add_exception_handler(class_, _refuse)
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    response = answer(problem_of(error), request.url.path)
    if response.status_code == 405:  # noqa: PLR2004 - the framework names the methods of one route only
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    methods: set[str] = set()
    for method in ("GET", "POST"):
        scope: Scope = {**request.scope, "method": method}
        if any(_fits(route, scope) for route in request.app.router.routes):
            methods |= {"GET", "HEAD"} if method == "GET" else {method}
    return sorted(methods) or ["GET", "HEAD"]  # static files


def _fits(route: object, scope: Scope) -> bool:
    return isinstance(route, BaseRoute) and not isinstance(route, Mount) and route.matches(scope)[0] is Match.FULL


class _KeptFiles(StaticFiles):
    """Static files; their addresses change with their content, so that browsers keep them."""

    permission = Permission.OPEN

    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        versioned = scope.get("query_string", b"").startswith(b"v=")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response
