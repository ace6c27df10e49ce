"""Who sent a request, and what its role lets it do. No web framework: the host and the command line read it, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


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


class RefusedTokenError(Exception):
    """A token is not accepted, and why: for the log, never for the client."""


class KeysUnavailableError(Exception):
    """The issuer's keys can't be had now: nobody knows whether the token is good."""
