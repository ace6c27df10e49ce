"""Reading the RoleEnvironment document that the host writes for each incarnation."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from rolehost.errors import RoleEnvironmentError
from rolehost.service_runtime.topology import (
    Certificate,
    LocalResource,
    Role,
    RoleInstance,
    RoleInstanceEndpoint,
    Snapshot,
)

_Value = TypeVar("_Value")


def parse_snapshot(document: bytes) -> Snapshot:
    """Read a RoleEnvironment document.

    Args:
        document: the XML that the host writes for each incarnation.

    Raises:
        RoleEnvironmentError: it is no such document.
    """
    try:
        return _parse(_root(document))
    except (ET.ParseError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RoleEnvironmentError(f"the host's RoleEnvironment document can't be read: {error!r}") from error


def _root(document: bytes) -> ET.Element:
    if b"<!" in document:
        raise ValueError("declarations and entities are not read")
    return ET.fromstring(document)  # noqa: S314 - our host's own document; entities were refused above


def _parse(root: ET.Element) -> Snapshot:
    deployment, current = root.find("Deployment"), root.find("CurrentInstance")
    if deployment is None or current is None:
        raise ValueError("Deployment or CurrentInstance is missing")
    emulated = deployment.attrib["emulated"] == "true"
    roles = {role.attrib["name"]: _role(role, emulated=emulated) for role in root.iterfind("Roles/Role")}
    instance, name = _instance(current, emulated=emulated), current.attrib["roleName"]
    # What the current instance says of itself counts; a role without internal endpoints may not list it at all.
    listed = {other.id: other for other in roles.get(name, Role(name)).instances} | {instance.id: instance}
    roles[name] = Role(name, tuple(listed.values()))
    return Snapshot(
        deployment_id=deployment.attrib["id"],
        is_emulated=emulated,
        current_role_instance=instance,
        settings=_by_name(current, "ConfigurationSettings/ConfigurationSetting", lambda a: str(a["value"])),
        local_resources=_by_name(current, "LocalResources/LocalResource", _resource),
        roles=MappingProxyType(roles),
        certificates=_certificates(current.get("certificates", "[]")),
    )


def _by_name(parent: ET.Element, path: str, read: Callable[[dict[str, Any]], _Value]) -> Mapping[str, _Value]:
    return MappingProxyType({item.attrib["name"]: read(item.attrib) for item in parent.iterfind(path)})


def _resource(attributes: dict[str, str]) -> LocalResource:
    return LocalResource(attributes["name"], attributes["path"], int(attributes["sizeInMB"]))


def _certificates(text: str) -> Mapping[str, Certificate]:
    return MappingProxyType({name: Certificate(name, *rest) for name, *rest in json.loads(text)})


def _endpoint(attributes: dict[str, str], *, emulated: bool) -> RoleInstanceEndpoint:
    address = (attributes["address"], int(attributes["port"]))
    port = attributes.get("publicPort")
    public = None if port is None or emulated else (attributes["publicAddress"], int(port))
    return RoleInstanceEndpoint(attributes["name"], address, attributes["protocol"], public)


def _instance(element: ET.Element, *, emulated: bool) -> RoleInstance:
    endpoints = _by_name(element, "Endpoints/Endpoint", lambda attributes: _endpoint(attributes, emulated=emulated))
    domains = int(element.attrib["faultDomain"]), int(element.attrib["updateDomain"])
    return RoleInstance(element.attrib["id"], *domains, endpoints)


def _role(element: ET.Element, *, emulated: bool) -> Role:
    instances = (_instance(item, emulated=emulated) for item in element.iterfind("Instances/Instance"))
    return Role(element.attrib["name"], tuple(instances))
