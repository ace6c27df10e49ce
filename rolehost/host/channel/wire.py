"""The messages of the runtime channel, protocol 2011-03-08, as XML.

Host to role: the version document, goal states and RoleEnvironment documents; role to host: current states. What
rolehost adds are attributes of the outermost elements, which foreign clients ignore.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from rolehost import clock
from rolehost.environment import RoleInstance, RoleInstanceEndpoint, Snapshot
from rolehost.errors import WireError

VERSION = "2011-03-08"
FOREVER = "9999-12-31T23:59:59.9999999"

STARTED, BUSY, RECYCLE, STOPPED = "Started", "Busy", "Recycle", "Stopped"

_HEADER = '<?xml version="1.0" encoding="utf-8"?>'


@dataclass(frozen=True, slots=True)
class GoalState:
    """What the host expects of the role.

    Args:
        incarnation: grows with each goal of a bootstrapper.
        expected: `Started` or `Stopped`.
        environment_path: the RoleEnvironment document of this incarnation.
        state_endpoint: the socket for current states.
        seconds: how long a stop may take; None: as long as it likes.
        heartbeat: the role is taken for hung when it is silent for so many seconds.
        simultaneous: a change of the topology in it is told to all instances at once.
        changing_seconds: how long the handlers of `changing` may take.
        status_check_seconds: between two checks of the status.
    """

    incarnation: int
    expected: str
    environment_path: str
    state_endpoint: str
    seconds: float | None = None
    heartbeat: float = 30.0
    simultaneous: bool = False
    changing_seconds: float = 30.0
    status_check_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class CurrentState:
    """What a client says of the role: a status lease it takes, or (status None) releases.

    Args:
        expiration: the moment when the lease ends, in UTC.
        detail: a sentence for people.
        heartbeat: the client is one of ours, and renews: its silence means something.
        seconds: how long the lease lasts, from a client of ours; it counts in the place of `expiration`.
    """

    client_id: str
    status: str | None
    incarnation: int = 0
    expiration: str = FOREVER
    detail: str = ""
    heartbeat: bool = False
    seconds: float | None = None


def version_document(goal_path: str) -> bytes:
    """What the runtime endpoint answers."""
    endpoint = _element("RuntimeServerEndpoint", {"version": VERSION, "path": goal_path})
    inner = _element("RuntimeServerEndpoints", {}, endpoint)
    return (_HEADER + _element("RuntimeServerDiscovery", {}, inner)).encode()


def read_version(document: bytes) -> str:
    """The goal-state socket that a version document names for our protocol version."""
    for endpoint in _root(document, "RuntimeServerDiscovery").iter("RuntimeServerEndpoint"):
        if endpoint.get("version") == VERSION:
            return endpoint.get("path", "")
    raise WireError(f"the runtime endpoint doesn't speak {VERSION}")


def goal_frame(goal: GoalState) -> bytes:
    """A goal state as a frame: its length in hexadecimal, the document, each with a line's end after it."""
    attributes = {
        "heartbeat": f"{goal.heartbeat:.3f}",
        "changing": f"{goal.changing_seconds:.3f}",
        "statusCheck": f"{goal.status_check_seconds:.3f}",
    }
    if goal.simultaneous:
        attributes["simultaneous"] = "true"
    deadline = FOREVER
    if goal.seconds is not None:
        attributes["seconds"] = f"{goal.seconds:.3f}"
        deadline = (clock.now() + timedelta(seconds=goal.seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f0")
    parts = {
        "Incarnation": str(goal.incarnation),
        "ExpectedState": goal.expected,
        "RoleEnvironmentPath": goal.environment_path,
        "CurrentStateEndpoint": goal.state_endpoint,
        "Deadline": deadline,
    }
    inner = "".join(f"<{name}>{_escape(text)}</{name}>" for name, text in parts.items())
    body = (_HEADER + _element("GoalState", attributes, inner)).encode()
    return b"%x\r\n%b\r\n" % (len(body), body)


def read_goal(document: bytes) -> GoalState:
    """A goal state from its document."""
    root = _root(document, "GoalState")
    seconds = root.get("seconds")
    try:
        return GoalState(
            incarnation=int(root.findtext("Incarnation", "")),
            expected=root.findtext("ExpectedState", ""),
            environment_path=root.findtext("RoleEnvironmentPath", ""),
            state_endpoint=root.findtext("CurrentStateEndpoint", ""),
            seconds=None if seconds is None else float(seconds),
            heartbeat=float(root.get("heartbeat", "30")),
            simultaneous=root.get("simultaneous") == "true",
            changing_seconds=float(root.get("changing", "30")),
            status_check_seconds=float(root.get("statusCheck", "15")),
        )
    except ValueError as error:
        raise WireError(f"the goal state can't be read: {error}") from error


def current_state(state: CurrentState) -> bytes:
    """A current state as a document."""
    if state.status is None:
        lease = "<Release/>"
    else:
        parts = {
            "Incarnation": str(state.incarnation),
            "Status": state.status,
            "StatusDetail": state.detail or state.status,
            "Expiration": state.expiration,
        }
        inner = "".join(f"<{name}>{_escape(text)}</{name}>" for name, text in parts.items())
        lease = f"<Acquire>{inner}</Acquire>"
    attributes = {"heartbeat": "true"} if state.heartbeat else {}
    if state.seconds is not None:
        attributes["seconds"] = f"{state.seconds:.3f}"
    inner = _element("StatusLease", {"ClientId": state.client_id}, lease)
    return (_HEADER + _element("CurrentState", attributes, inner)).encode()


def read_current_state(document: bytes) -> CurrentState:
    """A current state from its document."""
    root = _root(document, "CurrentState")
    lease = root.find("StatusLease")
    if lease is None:
        raise WireError("the current state holds no status lease")
    heartbeat, client = root.get("heartbeat") == "true", lease.get("ClientId", "")
    acquire = lease.find("Acquire")
    if acquire is None:
        return CurrentState(client, None, heartbeat=heartbeat)
    status = acquire.findtext("Status", "")
    if status not in {STARTED, BUSY, RECYCLE, STOPPED}:
        raise WireError(f"there is no status {status!r}")
    seconds = root.get("seconds")
    try:
        incarnation = int(acquire.findtext("Incarnation", "0"))
        lasts = None if seconds is None else float(seconds)
    except ValueError as error:
        raise WireError(f"the incarnation or the lease's length is no number: {error}") from error
    detail = acquire.findtext("StatusDetail", "")
    return CurrentState(
        client,
        status,
        incarnation,
        acquire.findtext("Expiration", FOREVER),
        "" if detail == status else detail,
        heartbeat,
        lasts,
    )


def environment_document(snapshot: Snapshot) -> bytes:
    """The RoleEnvironment document of a snapshot."""
    current = snapshot.current_role_instance
    settings = _list("ConfigurationSetting", [{"name": n, "value": v} for n, v in snapshot.settings.items()])
    resources = [
        {"name": item.name, "path": item.root_path, "sizeInMB": str(item.maximum_size_in_megabytes)}
        for item in snapshot.local_resources.values()
    ]
    inner = (
        _element("ConfigurationSettings", {}, settings)
        + _element("LocalResources", {}, _list("LocalResource", resources))
        + _endpoints(current)
    )
    identity = {"id": current.id, "roleName": current.role.name, **_domains(current)}
    if snapshot.certificates:
        written = [[each.name, each.thumbprint, each.path] for each in snapshot.certificates.values()]
        identity["certificates"] = json.dumps(written, ensure_ascii=False)
    roles = "".join(
        _element("Role", {"name": role.name}, _element("Instances", {}, "".join(map(_instance, role.instances))))
        for role in snapshot.roles.values()
    )
    emulated = "true" if snapshot.is_emulated else "false"
    body = (
        _element("Deployment", {"id": snapshot.deployment_id, "emulated": emulated})
        + _element("CurrentInstance", identity, inner)
        + _element("Roles", {}, roles)
    )
    return (_HEADER + _element("RoleEnvironment", {}, body)).encode()


def _instance(instance: RoleInstance) -> str:
    return _element("Instance", {"id": instance.id, **_domains(instance)}, _endpoints(instance))


def _endpoints(instance: RoleInstance) -> str:
    endpoints = [_endpoint(endpoint) for endpoint in instance.instance_endpoints.values()]
    return _element("Endpoints", {}, _list("Endpoint", endpoints))


def _endpoint(endpoint: RoleInstanceEndpoint) -> dict[str, str]:
    address, port = endpoint.ip_endpoint
    written = {"name": endpoint.name, "address": address, "port": str(port), "protocol": endpoint.protocol}
    if endpoint.public_ip_endpoint is not None:
        public, public_port = endpoint.public_ip_endpoint
        written |= {"publicAddress": public, "publicPort": str(public_port)}
    return written


def _domains(instance: RoleInstance) -> dict[str, str]:
    return {"faultDomain": str(instance.fault_domain), "updateDomain": str(instance.update_domain)}


def _list(name: str, items: list[dict[str, str]]) -> str:
    return "".join(_element(name, item) for item in items)


def _element(name: str, attributes: Mapping[str, str], inner: str = "") -> str:
    written = "".join(f' {key}="{_escape(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def _escape(text: str) -> str:
    # Line ends and tabs too: a reader of attributes makes spaces of them otherwise.
    for character, entity in _ENTITIES.items():
        text = text.replace(character, entity)
    return text


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}


def _root(document: bytes, name: str) -> ET.Element:
    if b"<!" in document:
        raise WireError("declarations and entities are not read")
    try:
        root = ET.fromstring(document)  # noqa: S314 - entities were refused above
    except ET.ParseError as error:
        raise WireError(f"this is no XML: {error}") from error
    if root.tag != name:
        raise WireError(f"expected {name}, got {root.tag}")
    return root
