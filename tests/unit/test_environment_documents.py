from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from rolehost.environment import (
    Certificate,
    LocalResource,
    Role,
    RoleEnvironment,
    RoleInstance,
    RoleInstanceEndpoint,
    Snapshot,
    parse_snapshot,
)
from rolehost.host.channel.wire import environment_document
from rolehost.service_model import RoleModel
from support.instances import make_plan


def documented(*endpoints: RoleInstanceEndpoint) -> RoleEnvironment:
    """An environment with these endpoints, written by the host and read by the role."""
    current = RoleInstance("Web_IN_0", 0, 0, MappingProxyType({each.name: each for each in endpoints}))
    written = Snapshot(
        deployment_id="d",
        is_emulated=True,
        current_role_instance=current,
        settings={"Colour": "red"},
        local_resources={"Work": LocalResource("Work", "/srv/data/")},
        roles={"Web": Role("Web", (current,))},
        certificates={"Tls": Certificate("Tls", "AB" * 20)},
    )
    return RoleEnvironment(parse_snapshot(environment_document(written)))


def of_a_test(tmp_path: Path) -> RoleEnvironment:
    return RoleEnvironment.for_testing(
        settings={"Colour": "red"}, local_resources={"Work": tmp_path}, endpoints={"Http": ("127.0.0.1", 80)}
    )


@pytest.mark.parametrize("made", ["host", "test"])
def test_what_an_environment_holds_takes_no_writes(made: str, tmp_path: Path) -> None:
    environment = (
        documented(RoleInstanceEndpoint("Http", ("127.0.0.1", 80), "http")) if made == "host" else of_a_test(tmp_path)
    )
    current = environment.current_role_instance
    held = [
        environment.roles,
        environment.certificates,
        environment.snapshot.settings,
        environment.snapshot.local_resources,
        current.instance_endpoints,
        current.virtual_ip_groups,
    ]
    for mapping in held:
        with pytest.raises(TypeError, match="does not support item assignment"):
            mapping["Other"] = None  # type: ignore[index]
    (role,) = environment.roles.values()
    assert isinstance(role.instances, tuple)
    with pytest.raises(AttributeError, match="cannot assign"):
        role.name = "Other"  # type: ignore[misc]


def test_endpoints_keep_their_protocols_in_the_document() -> None:
    protocols = ("http", "https", "tcp", "udp")
    given = [RoleInstanceEndpoint(each, ("127.0.0.1", port), each) for port, each in enumerate(protocols, 1)]
    current = documented(*given).current_role_instance
    assert {name: each.protocol for name, each in current.instance_endpoints.items()} == dict(
        zip(protocols, protocols, strict=True)
    )
    assert [each.ip_endpoint[1] for each in current.instance_endpoints.values()] == [1, 2, 3, 4]


def test_an_instance_is_called_by_its_role_and_its_number(tmp_path: Path) -> None:
    role = RoleModel(name="Web", entry_point="web:Role", instances=12)
    plan = make_plan(tmp_path, role, number=11)
    assert plan.instance_id == "Web_IN_11"
    assert plan.snapshot().current_role_instance.id == "Web_IN_11"
    assert plan.role_variables("", "")["RoleInstanceID"] == "Web_IN_11"
    assert role.instance_ids()[-1] == "Web_IN_11"
