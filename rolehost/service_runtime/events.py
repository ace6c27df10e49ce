"""The role environment's events, what their handlers are given, and the changes that are told.

Everybody imports them from `rolehost.environment`.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from rolehost.service_runtime.topology import RoleInstanceStatus

_Arguments = TypeVar("_Arguments")


@dataclass(frozen=True)
class RoleEnvironmentChange:
    """What all changes are; equal changes are equal as values (ee773172)."""


@dataclass(frozen=True)
class ConfigurationSettingChange(RoleEnvironmentChange):
    """A configuration setting has another value, is new, or is gone. Its value is asked of the role environment."""

    configuration_setting_name: str


@dataclass(frozen=True)
class TopologyChange(RoleEnvironmentChange):
    """A role, its instances, or the domains or endpoints of one of them are not as they were."""

    role_name: str


@dataclass(frozen=True)
class CertificateChange(RoleEnvironmentChange):
    """The role has another certificate: the new one's thumbprint, or the old one's where it is gone (dn481491)."""

    thumbprint: str


@dataclass(frozen=True)
class SimultaneousTopologyChange(RoleEnvironmentChange):
    """As `TopologyChange`, told to all instances at once (dn481464)."""

    role_name: str


Changes = tuple[RoleEnvironmentChange, ...]


@dataclass(slots=True)
class RoleEnvironmentChanging:
    """The argument of `changing`'s handlers.

    Args:
        changes: what differs; the old values are still read.
        cancel: set it to have the instance stopped and started with the new values instead (ee741911).
    """

    changes: Changes
    cancel: bool = False


@dataclass(frozen=True)
class RoleEnvironmentChanged:
    """The argument of `changed`'s handlers: the same changes; the new values are read."""

    changes: Changes


@dataclass(frozen=True)
class SimultaneousChanging:
    """The argument of `simultaneous_changing`'s handlers; such a change can't be refused."""

    changes: Changes


@dataclass(frozen=True)
class SimultaneousChanged:
    """The argument of `simultaneous_changed`'s handlers."""

    changes: Changes


@dataclass(frozen=True)
class RoleInstanceStatusCheck:
    """The argument of `status_check`'s handlers.

    Args:
        status: what the instance says of itself now.
    """

    status: RoleInstanceStatus
    _busy: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)

    def set_busy(self) -> None:
        """Be busy until the next check: no new connections come meanwhile (ee772756)."""
        self._busy.set()

    @property
    def is_busy(self) -> bool:
        """Whether a handler has called `set_busy`."""
        return self._busy.is_set()


@dataclass(frozen=True)
class RoleEnvironmentStopping:
    """The argument of `stopping`'s handlers (the original's RoleEnvironmentStoppingEventArgs has no members either)."""


class Event(Generic[_Arguments]):
    """Handlers that are called one after another; add one with `+=`, remove it with `-=`. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._handlers: tuple[Callable[[_Arguments], object], ...] = ()

    def __iadd__(self, handler: Callable[[_Arguments], object]) -> Event[_Arguments]:
        given: object = handler
        if not callable(given) or inspect.iscoroutinefunction(given):
            raise TypeError(f"a handler of {self._name} is a plain function of one argument, not {handler!r}")
        with self._lock:
            self._handlers = (*self._handlers, handler)
        return self

    def __isub__(self, handler: Callable[[_Arguments], object]) -> Event[_Arguments]:
        with self._lock:
            kept = list(self._handlers)
            if handler in kept:
                kept.remove(handler)
            self._handlers = tuple(kept)
        return self

    def __bool__(self) -> bool:
        """Whether there is a handler."""
        return bool(self._handlers)

    def fire(self, arguments: _Arguments) -> None:
        """Call every handler in this thread; what one raises is printed, and the next is called all the same."""
        for handler in self._handlers:
            try:
                handler(arguments)
            except (Exception, SystemExit):  # noqa: BLE001 - a handler's error must not keep the others from hearing
                sys.excepthook(*sys.exc_info())


class EventMember(Generic[_Arguments]):
    """An event as a member of a class whose objects answer `_event(name)`."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, holder: Any, _owner: type) -> Event[_Arguments]:
        if holder is None:
            return self  # type: ignore[return-value]  # the class's own: for documentation tools
        event: Event[_Arguments] = holder._event(self._name)  # noqa: SLF001 - the holder's side of this class
        return event

    def __set__(self, holder: Any, event: Event[_Arguments]) -> None:
        # `environment.stopping += handler` ends in an assignment of the event to itself.
        if event is not holder._event(self._name):  # noqa: SLF001 - as above
            raise AttributeError("an event can't be replaced: add handlers with +=, remove them with -=")
