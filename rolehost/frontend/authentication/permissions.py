"""Who may do what: each route declares the permission that it needs, each client has a role that holds some of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starlette.routing import BaseRoute
    from starlette.types import Scope

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Endpoint: TypeAlias = Callable[_P, Awaitable[_R]]


class Permission(StrEnum):
    """What a route needs; a role is named after the highest permission that it holds, and holds those below it too."""

    OPEN = "open"
    """Nobody has to say who he is: probes, the sign-in page and what it is made of."""
    READ = "read"
    """Look at jobs, results and instances."""
    SUBMIT = "submit"
    """Submit jobs, too."""
    OPERATE = "operate"
    """Everything: cancel, replay, purge, decide about poisoned jobs and document what was decided."""

    def holds(self, other: Permission) -> bool:
        """Whether a role of this name may do what needs `other`."""
        order = list(Permission)
        return order.index(other) <= order.index(self)


ROLES = (Permission.READ, Permission.SUBMIT, Permission.OPERATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who sent a request.

    Args:
        name: for people and logs.
        role: what it may do.
        how: it was told by an API `key`, a `session` of the sign-in page, a `token`, a `proxy`; or it is `local`,
            where no authentication is configured, or `nobody`.
    """

    name: str
    role: Permission
    how: str

    def may(self, permission: Permission) -> bool:
        """Whether it may do what needs this."""
        return self.role.holds(permission)


LOCAL = Identity(name="local", role=Permission.OPERATE, how="local")
NOBODY = Identity(name="", role=Permission.OPEN, how="nobody")

_current: ContextVar[Identity] = ContextVar("identity", default=LOCAL)


def identity() -> Identity:
    """Who sent the request that is being answered."""
    return _current.get()


def may(permission: str) -> bool:
    """Whether who sent the request that is being answered may do this; pages show no button for what he may not."""
    return _current.get().may(Permission(permission))


@contextmanager
def acting(who: Identity) -> Iterator[None]:
    """What is answered inside is answered to this client."""
    token = _current.set(who)
    try:
        yield
    finally:
        _current.reset(token)


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
