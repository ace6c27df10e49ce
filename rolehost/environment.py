"""RoleEnvironment: what a role can ask about its service, its instance and its configuration.

The names are those of Microsoft.WindowsAzure.ServiceRuntime in Python's casing; so are the semantics. Everything that
is read comes from one `Snapshot`, which is swapped as a whole: a reader never sees half of a change.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from rolehost import clock
from rolehost.errors import RoleEnvironmentError
from rolehost.service_runtime.changes import EnvironmentChange, compare
from rolehost.service_runtime.document import parse_snapshot
from rolehost.service_runtime.events import (
    CertificateChange,
    Changes,
    ConfigurationSettingChange,
    Event,
    EventMember,
    RoleEnvironmentChange,
    RoleEnvironmentChanged,
    RoleEnvironmentChanging,
    RoleEnvironmentStopping,
    RoleInstanceStatusCheck,
    SimultaneousChanged,
    SimultaneousChanging,
    SimultaneousTopologyChange,
    TopologyChange,
)
from rolehost.service_runtime.host_side import EnvironmentHost, TestingHost
from rolehost.service_runtime.reading import EnvironmentReader
from rolehost.service_runtime.settings import TRACE_SOURCE
from rolehost.service_runtime.topology import (
    Certificate,
    LocalResource,
    Role,
    RoleInstance,
    RoleInstanceEndpoint,
    RoleInstanceStatus,
    Snapshot,
)

__all__ = [
    "Certificate",
    "CertificateChange",
    "Changes",
    "ConfigurationSettingChange",
    "EnvironmentChange",
    "EnvironmentHost",
    "Event",
    "LocalResource",
    "Role",
    "RoleEnvironment",
    "RoleEnvironmentChange",
    "RoleEnvironmentChanged",
    "RoleEnvironmentChanging",
    "RoleEnvironmentStopping",
    "RoleInstance",
    "RoleInstanceEndpoint",
    "RoleInstanceStatus",
    "RoleInstanceStatusCheck",
    "SimultaneousChanged",
    "SimultaneousChanging",
    "SimultaneousTopologyChange",
    "Snapshot",
    "TopologyChange",
    "get_setting",
    "parse_snapshot",
    "role_environment",
]


class RoleEnvironment(EnvironmentReader):
    """The role environment; `rolehost.role_environment` is the process's current one. Thread-safe.

    Outside a host `is_available` is False, and every other member raises RoleEnvironmentError (as documented for
    RoleEnvironment.IsAvailable), but for `get_setting`, which then asks the variables of the process.

    Args:
        snapshot: what is known; None: not in a host.
        host: who carries out what is asked for; None: nobody.
    """

    trace_source: ClassVar[logging.Logger] = TRACE_SOURCE
    """The logger `rolehost.runtime`: what the runtime says of its own doing, at a level that can be set."""

    changing = EventMember[RoleEnvironmentChanging]()
    """Raised before a change applies: the old values are still read, and `cancel` can be set."""

    changed = EventMember[RoleEnvironmentChanged]()
    """Raised once a change applies; the new values are read."""

    simultaneous_changing = EventMember[SimultaneousChanging]()
    """Raised before a change that all instances are told of at once (`topologyChangeDiscovery="Blast"`)."""

    simultaneous_changed = EventMember[SimultaneousChanged]()
    """Raised once such a change applies."""

    status_check = EventMember[RoleInstanceStatusCheck]()
    """Raised every 15 seconds; a handler may call `set_busy`."""

    stopping = EventMember[RoleEnvironmentStopping]()
    """Raised before `on_stop`, when the instance no longer takes requests."""

    def __init__(self, snapshot: Snapshot | None = None, host: EnvironmentHost | None = None) -> None:
        super().__init__(snapshot)
        self._host = host
        self._events: dict[str, Event[Any]] = {}

    @classmethod
    def for_testing(
        cls,
        *,
        settings: Mapping[str, str] | None = None,
        local_resources: Mapping[str, str | os.PathLike[str]] | None = None,
        role_name: str = "Role",
        instance: int = 0,
        endpoints: Mapping[str, tuple[str, int]] | None = None,
        on_recycle: Callable[[], None] | None = None,
    ) -> RoleEnvironment:
        """An environment for a role's own tests; `testing_change` and `testing_status_check` raise its events.

        Args:
            settings: configuration settings.
            local_resources: a directory for each name; it is created.
            role_name: the role that the instance is of.
            instance: its number.
            endpoints: address and port of each of its endpoints, of protocol tcp.
            on_recycle: called by `request_recycle`.
        """
        resources = {name: _testing_resource(name, path) for name, path in (local_resources or {}).items()}
        bound = {name: RoleInstanceEndpoint(name, each, "tcp") for name, each in (endpoints or {}).items()}
        current = RoleInstance(f"{role_name}_IN_{instance}", 0, instance, MappingProxyType(bound))
        snapshot = Snapshot(
            deployment_id="testing",
            is_emulated=True,
            current_role_instance=current,
            settings=MappingProxyType(dict(settings or {})),
            local_resources=MappingProxyType(resources),
            roles=MappingProxyType({role_name: Role(role_name, (current,))}),
        )
        return cls(snapshot, TestingHost(on_recycle))

    def request_recycle(self) -> None:
        """Ask for this instance to be stopped in order and started again; returns once the host knows.

        Raises:
            RoleEnvironmentError: the host can't be told.
        """
        self._connected().request_recycle()

    def set_status(self, status: RoleInstanceStatus, expiration: datetime | timedelta) -> None:
        """Say whether the instance takes requests, until a moment; then it is as it was before.

        Microsoft's Java, Node and PHP clients have this, .NET has not. While the role starts it stays busy.

        Args:
            status: of this instance.
            expiration: the moment, with its time zone, or how long from now.

        Raises:
            RoleEnvironmentError: the host can't be told.
        """
        if isinstance(expiration, datetime):
            if expiration.tzinfo is None:
                raise ValueError("the expiration needs a time zone, as datetime.now(UTC) has")
            expiration -= clock.now()
        self._connected().set_status(status, expiration.total_seconds())

    def clear_status(self) -> None:
        """Take back what `set_status` said.

        Raises:
            RoleEnvironmentError: the host can't be told.
        """
        self._connected().clear_status()

    def report_trouble(self, reason: str, seconds: float) -> None:
        """For roles that ship: be busy, beside what `set_status` says, and let probes and people read why.

        Args:
            reason: a sentence; empty: the trouble is over.
            seconds: how long it is true if nothing else is said.

        Raises:
            RoleEnvironmentError: the host can't be told.
        """
        self._connected().report_trouble(reason, seconds)

    def attach(self, snapshot: Snapshot, host: EnvironmentHost | None = None) -> None:
        """The host's: make this environment available, or swap all that it knows."""
        self._host = host or self._host
        self._snapshot = snapshot

    @contextmanager
    def stands_for(self, other: RoleEnvironment) -> Iterator[None]:
        """For tests: know what another environment knows, and ask its host, as long as the block lasts."""
        before = self._snapshot, self._host, self._events
        self._snapshot, self._host, self._events = other._snapshot, other._host, other._events
        try:
            yield
        finally:
            self._snapshot, self._host, self._events = before

    def compare(self, new: Snapshot, *, simultaneous: bool = False) -> EnvironmentChange:
        """The host's: what would change."""
        return compare(self.snapshot, new, simultaneous=simultaneous)

    def raise_changing(self, change: EnvironmentChange) -> bool:
        """The host's: ask the handlers whether a change may apply; False: one has cancelled it."""
        asked = RoleEnvironmentChanging(change.changes)
        if change.changes:
            self._raise("changing", asked)
        if change.simultaneous and not asked.cancel:
            self._raise("simultaneous_changing", SimultaneousChanging(change.simultaneous))
        return not asked.cancel

    def raise_changed(self, change: EnvironmentChange) -> None:
        """The host's: tell the handlers of a change that applies now."""
        if change.changes:
            self._raise("changed", RoleEnvironmentChanged(change.changes))
        if change.simultaneous:
            self._raise("simultaneous_changed", SimultaneousChanged(change.simultaneous))

    def raise_status_check(self, status: RoleInstanceStatus) -> bool:
        """The host's: call the handlers of `status_check`; True: one has called `set_busy`."""
        check = RoleInstanceStatusCheck(status)
        self._raise("status_check", check)
        return check.is_busy

    def raise_stopping(self) -> None:
        """The host's: call the handlers of `stopping`."""
        self._raise("stopping", RoleEnvironmentStopping())

    def testing_change(
        self,
        *,
        settings: Mapping[str, str | None] | None = None,
        roles: Mapping[str, Role] | None = None,
        certificates: Mapping[str, str] | None = None,
        simultaneous: bool = False,
    ) -> bool:
        """In an environment of `for_testing`: apply a change as a host would, with its events, in this thread.

        Args:
            settings: new values; None: the setting goes.
            roles: new or changed roles.
            certificates: thumbprints by name.
            simultaneous: the topology changes for all instances at once.

        Returns:
            False: a handler cancelled it. Nothing was changed, and `on_recycle` was called.
        """
        host, old = self._testing_host(), self.snapshot
        values = {name: text for name, text in {**old.settings, **(settings or {})}.items() if text is not None}
        given = {name: Certificate(name, thumbprint) for name, thumbprint in (certificates or {}).items()}
        new = replace(
            old,
            settings=MappingProxyType(values),
            roles=MappingProxyType({**old.roles, **(roles or {})}),
            certificates=MappingProxyType({**old.certificates, **given}),
        )
        change = self.compare(new, simultaneous=simultaneous)
        if not self.raise_changing(change):
            with suppress(RoleEnvironmentError):  # no `on_recycle`
                host.request_recycle()
            return False
        self.attach(new)
        self.raise_changed(change)
        return True

    def testing_status_check(self) -> RoleInstanceStatus:
        """In an environment of `for_testing`: raise `status_check`; the answer is the status until the next one."""
        status = self._testing_host().status
        return RoleInstanceStatus.BUSY if self.raise_status_check(status) else status

    def _testing_host(self) -> TestingHost:
        host = self._connected()
        if not isinstance(host, TestingHost):
            raise RoleEnvironmentError("only an environment of RoleEnvironment.for_testing takes a test's changes")
        return host

    def _connected(self) -> EnvironmentHost:
        self.snapshot  # noqa: B018 - it raises outside a host
        if self._host is None:
            raise RoleEnvironmentError("no host is connected that could do it")
        return self._host

    def _event(self, name: str) -> Event[Any]:
        self.snapshot  # noqa: B018 - it raises outside a host
        return self._events.setdefault(name, Event(name))

    def _raise(self, name: str, arguments: object) -> None:
        self.trace_source.debug("Raising %s.", arguments)
        self._event(name).fire(arguments)


def _testing_resource(name: str, place: str | os.PathLike[str]) -> LocalResource:
    if not isinstance(place, str | os.PathLike):
        raise TypeError(f"local_resources gives each resource a directory, and {name} has {place!r}")
    path = Path(place)
    path.mkdir(parents=True, exist_ok=True)
    return LocalResource(name, os.path.join(path.absolute(), ""))  # noqa: PTH118 - a Path drops the last separator


role_environment = RoleEnvironment()


def get_setting(name: str, *, throw: bool = False) -> str | None:
    """A setting from wherever it may be; `RoleEnvironment.get_setting` of the process's role environment.

    Args:
        name: of the setting.
        throw: raise where the role environment has no such setting.

    Raises:
        RoleEnvironmentError: there is no such setting, and `throw` is set.
    """
    return role_environment.get_setting(name, throw=throw)
