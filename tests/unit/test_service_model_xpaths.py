"""The XPaths by which a variable takes its value from the role environment."""

from __future__ import annotations

import pytest

from rolehost.service_model import parse_instance_value

INSTANCE = "/RoleEnvironment/CurrentInstance"


@pytest.mark.parametrize(
    ("xpath", "expected"),
    [
        ("/RoleEnvironment/Deployment/@id", ("Deployment", "id", "")),
        ("/RoleEnvironment/Deployment/@emulated", ("Deployment", "emulated", "")),
        (f"{INSTANCE}/@id", ("CurrentInstance", "id", "")),
        (f"{INSTANCE}/@roleName", ("CurrentInstance", "roleName", "")),
        (f"{INSTANCE}/@updateDomain", ("CurrentInstance", "updateDomain", "")),
        (f"{INSTANCE}/@faultDomain", ("CurrentInstance", "faultDomain", "")),
        (
            f"{INSTANCE}/ConfigurationSettings/ConfigurationSetting[@name='A.b']/@value",
            ("ConfigurationSetting", "value", "A.b"),
        ),
        (f'{INSTANCE}/LocalResources/LocalResource[@name="R"]/@path', ("LocalResource", "path", "R")),
        (f"{INSTANCE}/LocalResources/LocalResource[@name='R']/@sizeInMB", ("LocalResource", "sizeInMB", "R")),
        (f"{INSTANCE}/Endpoints/Endpoint[@name='E']/@protocol", ("Endpoint", "protocol", "E")),
        (f"{INSTANCE}/Endpoints/Endpoint[@name='E']/@address", ("Endpoint", "address", "E")),
        (f"{INSTANCE}/Endpoints/Endpoint[@name='E']/@port", ("Endpoint", "port", "E")),
    ],
)
def test_the_twelve_xpaths(xpath: str, expected: tuple[str, str, str]) -> None:
    value = parse_instance_value(xpath)
    assert value is not None
    assert (value.element, value.attribute, value.name) == expected


@pytest.mark.parametrize(
    "xpath",
    [
        "",
        "id",
        "/RoleEnvironment/Deployment/@name",
        "/RoleEnvironment/Deployment[@name='x']/@id",
        f"{INSTANCE}/Endpoints/Endpoint/@port",
        f"{INSTANCE}/Endpoints/Endpoint[@name='E\"]/@port",
        f"{INSTANCE}/LocalResources/LocalResource[@name='R']/@value",
        "/RoleEnvironment/Roles/Role[@name='R']/@id",
        "Endpoints/Endpoint[@name='E']/@port",
    ],
)
def test_other_xpaths_are_refused(xpath: str) -> None:
    assert parse_instance_value(xpath) is None
