"""Who may do what: each route declares the permission that it needs, each client has a role that holds some of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from rolehost.frontend.authentication.identity import Permission, may

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import Scope

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Endpoint: TypeAlias = Callable[_P, Awaitable[_R]]


def needs(permission: Permission) -> Callable[[_Endpoint[_P, _R]], _Endpoint[_P, _R]]:
    """Declare what a route needs: a decorator of its endpoint, below the router's own.

    `Authentication` holds it before anything of the request's body is read; the endpoint itself holds it once more. A
    route that declares nothing needs the highest permission there is, and a test fails for it.
    """

    def guard(endpoint: _Endpoint[_P, _R]) -> _Endpoint[_P, _R]:
        @wraps(endpoint)
        async def guarded(*given: _P.args, **named: _P.kwargs) -> _R:
            if not may(permission):
                raise HTTPException(403, f"This needs the role {permission}.")
            return await endpoint(*given, **named)

        declare(guarded, permission)
        return guarded

    return guard


def declare(endpoint: object, permission: Permission) -> None:
    """Declare what an endpoint needs that somebody else wrote."""
    endpoint.permission = permission  # type: ignore[attr-defined] # functions and apps take attributes


def declared(endpoint: object) -> Permission | None:
    """What an endpoint was declared to need."""
    found = getattr(endpoint, "permission", None)
    return found if isinstance(found, Permission) else None


def every_route(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """All that is answered, each route with its whole path: the framework keeps included routers as they are."""
    found: list[BaseRoute] = []
    for context in iter_route_contexts(routes):
        original: Any = context.original_route
        whole = context.path is not None and hasattr(original, "endpoint")
        found.append(
            Route(str(context.path), original.endpoint, methods=sorted(context.methods or ())) if whole else original
        )
    return found


def needed(routes: Iterable[BaseRoute], scope: Scope) -> Permission:
    """What a request needs; that there is nothing at an address is no news for who may not read."""
    for route in routes:
        match, found = route.matches(scope)
        if match is Match.FULL:
            return declared(found.get("endpoint")) or Permission.OPERATE
    return Permission.READ
