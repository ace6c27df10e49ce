"""RoleEnvironment: what a role can ask about its service, its instance and its configuration.

The names are those of Microsoft.WindowsAzure.ServiceRuntime in Python's casing; so are the semantics. Everything that
is read comes from one `Snapshot`, which is swapped as a whole: a reader never sees half of a change.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from rolehost.errors import RoleEnvironmentError

_Arguments = TypeVar("_Arguments")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class LocalResource:
    """A directory of the instance's own.

    Args:
        name: as declared.
        root_path: an absolute path that ends with a separator; the directory exists.
        maximum_size_in_megabytes: as declared.
    """

    name: str
    root_path: str
    maximum_size_in_megabytes: int = 100


@dataclass(frozen=True, slots=True)
class RoleInstanceEndpoint:
    """Where an instance listens: `ip_endpoint` is (address, port), `protocol` as declared."""

    name: str
    ip_endpoint: tuple[str, int]
    protocol: str


@dataclass(frozen=True)
class RoleInstance:
    """One instance of a role; `id` has the form `<role>_IN_<n>`, the domains count from 0."""

    id: str
    fault_domain: int = 0
    update_domain: int = 0
    instance_endpoints: Mapping[str, RoleInstanceEndpoint] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    # Set by the role that holds it: each names the other.
    role: Role = field(init=False, compare=False, repr=False)


@dataclass(frozen=True)
class Role:
    """A role of the service, with the instances of it that this one may see."""

    name: str
    instances: tuple[RoleInstance, ...] = ()

    def __post_init__(self) -> None:
        for instance in self.instances:
            object.__setattr__(instance, "role", self)


@dataclass(frozen=True)
class Snapshot:
    """Everything that is known at one moment; never changed, only replaced."""

    deployment_id: str
    is_emulated: bool
    current_role_instance: RoleInstance
    settings: Mapping[str, str]
    local_resources: Mapping[str, LocalResource]
    roles: Mapping[str, Role]


@dataclass(frozen=True, slots=True)
class RoleEnvironmentStopping:
    """The argument of `stopping`'s handlers (the original's RoleEnvironmentStoppingEventArgs has no members either)."""


class Event(Generic[_Arguments]):
    """Handlers that are called one after another; add one with `+=`, remove it with `-=`. Thread-safe."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._handlers: tuple[Callable[[_Arguments], object], ...] = ()

    def __iadd__(self, handler: Callable[[_Arguments], object]) -> Event[_Arguments]:
        if inspect.iscoroutinefunction(handler):
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

    def fire(self, arguments: _Arguments) -> None:
        """Call every handler in this thread; what one raises is printed, and the next is called all the same."""
        for handler in self._handlers:
            try:
                handler(arguments)
            except Exception:  # noqa: BLE001 - a handler's error must not keep the others from hearing
                sys.excepthook(*sys.exc_info())


class RoleEnvironment:
    """The role environment; `rolehost.role_environment` is the process's current one.

    Outside a host `is_available` is False, and every other member raises RoleEnvironmentError (as documented for
    RoleEnvironment.IsAvailable).

    Args:
        snapshot: what is known; None: not in a host.
        on_recycle: called by `request_recycle`.
    """

    def __init__(self, snapshot: Snapshot | None = None, on_recycle: Callable[[], None] | None = None) -> None:
        self._snapshot = snapshot
        self._on_recycle = on_recycle
        self._stopping: Event[RoleEnvironmentStopping] = Event("stopping")

    @classmethod
    def for_testing(
        cls,
        *,
        settings: Mapping[str, str] | None = None,
        local_resources: Mapping[str, str | os.PathLike[str]] | None = None,
        role_name: str = "Role",
        instance: int = 0,
        on_recycle: Callable[[], None] | None = None,
    ) -> RoleEnvironment:
        """An environment for a role's own tests.

        Args:
            settings: configuration settings.
            local_resources: a directory for each name; it is created.
            role_name: the role that the instance is of.
            instance: its number.
            on_recycle: called by `request_recycle`.
        """
        resources = {name: _testing_resource(name, Path(path)) for name, path in (local_resources or {}).items()}
        current = RoleInstance(f"{role_name}_IN_{instance}", 0, instance)
        snapshot = Snapshot(
            deployment_id="testing",
            is_emulated=True,
            current_role_instance=current,
            settings=MappingProxyType(dict(settings or {})),
            local_resources=MappingProxyType(resources),
            roles=MappingProxyType({role_name: Role(role_name, (current,))}),
        )
        return cls(snapshot, on_recycle)

    def attach(self, snapshot: Snapshot, on_recycle: Callable[[], None] | None = None) -> None:
        """The host's: make this environment available, or swap all that it knows."""
        self._on_recycle = on_recycle or self._on_recycle
        self._snapshot = snapshot

    def _available(self) -> Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            raise RoleEnvironmentError(
                "there is no role environment here: this process was not started by a rolehost host "
                "(RoleEnvironment.for_testing makes one for tests)"
            )
        return snapshot

    @property
    def is_available(self) -> bool:
        """Whether this process runs in a host."""
        return self._snapshot is not None

    @property
    def is_emulated(self) -> bool:
        """Whether the whole service runs on one machine, under `rolehost up`."""
        return self._available().is_emulated

    @property
    def deployment_id(self) -> str:
        """An opaque name of this deployment; it stays the same when instances recycle."""
        return self._available().deployment_id

    @property
    def current_role_instance(self) -> RoleInstance:
        """The instance that this process is."""
        return self._available().current_role_instance

    @property
    def roles(self) -> Mapping[str, Role]:
        """The service's roles by name, read-only."""
        return self._available().roles

    @property
    def stopping(self) -> Event[RoleEnvironmentStopping]:
        """Raised before `on_stop`, when the instance no longer takes requests."""
        self._available()
        return self._stopping

    @stopping.setter
    def stopping(self, event: Event[RoleEnvironmentStopping]) -> None:
        # `environment.stopping += handler` ends in an assignment of the event to itself.
        if event is not self._stopping:
            raise AttributeError("an event can't be replaced: add handlers with +=, remove them with -=")

    def get_configuration_setting_value(self, name: str) -> str:
        """The value of a configuration setting.

        Raises:
            RoleEnvironmentError: there is no such setting.
        """
        settings = self._available().settings
        value = settings.get(name)
        if value is None:
            value = {key.casefold(): text for key, text in settings.items()}.get(name.casefold())
        if value is None:
            raise RoleEnvironmentError(f'the configuration setting "{name}" does not exist')
        return value

    def get_local_resource(self, name: str) -> LocalResource:
        """A local resource.

        Raises:
            RoleEnvironmentError: there is no such resource.
        """
        resource = self._available().local_resources.get(name)
        if resource is None:
            raise RoleEnvironmentError(f'the local storage resource "{name}" does not exist')
        return resource

    def request_recycle(self) -> None:
        """Ask for this instance to be stopped in order and started again; returns at once.

        Raises:
            RoleEnvironmentError: nobody is there to do it.
        """
        self._available()
        if self._on_recycle is None:
            raise RoleEnvironmentError("the instance can't be recycled: no host is connected")
        self._on_recycle()


def _testing_resource(name: str, path: Path) -> LocalResource:
    path.mkdir(parents=True, exist_ok=True)
    return LocalResource(name, os.path.join(path.absolute(), ""))  # noqa: PTH118 - a Path drops the last separator


def parse_snapshot(document: bytes) -> Snapshot:
    """Read a RoleEnvironment document.

    Args:
        document: the XML that the host writes for each incarnation.

    Raises:
        RoleEnvironmentError: it is no such document.
    """
    try:
        return _parse(_root(document))
    except (ET.ParseError, KeyError, ValueError, AttributeError) as error:
        raise RoleEnvironmentError(f"the host's RoleEnvironment document can't be read: {error!r}") from error


def _root(document: bytes) -> ET.Element:
    if b"<!" in document:
        raise ValueError("declarations and entities are not read")
    return ET.fromstring(document)  # noqa: S314 - our host's own document; entities were refused above


def _parse(root: ET.Element) -> Snapshot:
    deployment, current = root.find("Deployment"), root.find("CurrentInstance")
    if deployment is None or current is None:
        raise ValueError("Deployment or CurrentInstance is missing")
    roles = {role.attrib["name"]: _role(role) for role in root.iterfind("Roles/Role")}
    instance = _instance(current)
    listed = {other.id: other for other in roles.get(current.attrib["roleName"], Role("")).instances}
    if instance.id not in listed:
        roles[current.attrib["roleName"]] = Role(current.attrib["roleName"], (*listed.values(), instance))
    else:
        instance = listed[instance.id]
    return Snapshot(
        deployment_id=deployment.attrib["id"],
        is_emulated=deployment.attrib["emulated"] == "true",
        current_role_instance=instance,
        settings=_by_name(current, "ConfigurationSettings/ConfigurationSetting", lambda a: str(a["value"])),
        local_resources=_by_name(current, "LocalResources/LocalResource", _resource),
        roles=MappingProxyType(roles),
    )


def _by_name(parent: ET.Element, path: str, read: Callable[[dict[str, Any]], _Value]) -> Mapping[str, _Value]:
    return MappingProxyType({item.attrib["name"]: read(item.attrib) for item in parent.iterfind(path)})


def _resource(attributes: dict[str, str]) -> LocalResource:
    return LocalResource(attributes["name"], attributes["path"], int(attributes["sizeInMB"]))


def _endpoint(attributes: dict[str, str]) -> RoleInstanceEndpoint:
    address = (attributes["address"], int(attributes["port"]))
    return RoleInstanceEndpoint(attributes["name"], address, attributes["protocol"])


def _instance(element: ET.Element) -> RoleInstance:
    endpoints = _by_name(element, "Endpoints/Endpoint", _endpoint)
    domains = int(element.attrib["faultDomain"]), int(element.attrib["updateDomain"])
    return RoleInstance(element.attrib["id"], *domains, endpoints)


def _role(element: ET.Element) -> Role:
    return Role(element.attrib["name"], tuple(_instance(item) for item in element.iterfind("Instances/Instance")))


role_environment = RoleEnvironment()
