"""The twelve XPaths by which a variable takes its value from the role environment."""

from __future__ import annotations

import re
from dataclasses import dataclass

_INSTANCE = "/RoleEnvironment/CurrentInstance"
_PLAIN = {
    "/RoleEnvironment/Deployment": ("id", "emulated"),
    _INSTANCE: ("id", "roleName", "updateDomain", "faultDomain"),
}
_NAMED = {
    "ConfigurationSettings/ConfigurationSetting": ("value",),
    "LocalResources/LocalResource": ("path", "sizeInMB"),
    "Endpoints/Endpoint": ("protocol", "address", "port"),
}
_FORM = re.compile(
    r"(?P<element>/[A-Za-z/]+)(?:\[\s*@name\s*=\s*(?P<quote>['\"])(?P<name>[^'\"]+)(?P=quote)\s*\])?/@(?P<fact>\w+)"
)


@dataclass(frozen=True, slots=True)
class InstanceValue:
    """What an XPath asks for.

    Args:
        element: Deployment, CurrentInstance, ConfigurationSetting, LocalResource or Endpoint.
        attribute: of the element.
        name: which setting, local resource or endpoint; empty for the first two.
    """

    element: str
    attribute: str
    name: str = ""


def parse_instance_value(xpath: str) -> InstanceValue | None:
    """What the XPath asks for; None where it is none of the twelve.

    They are those of the original's page "xPath values in Azure".
    """
    form = _FORM.fullmatch(xpath.strip())
    if form is None:
        return None
    path, fact, name = form["element"], form["fact"], form["name"]
    known = _PLAIN.get(path) if name is None else _NAMED.get(path.removeprefix(f"{_INSTANCE}/"))
    if known is None or fact not in known:
        return None
    return InstanceValue(path.rpartition("/")[2], fact, name or "")
