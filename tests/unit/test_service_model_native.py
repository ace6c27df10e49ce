"""What `service.toml` says beyond roles, settings and public ports, and the rules that hold for it as for XML."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolehost.errors import ServiceModelError
from rolehost.service_model import (
    Certificate,
    ExecutionContext,
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    LoadBalancerProbe,
    PortRange,
    RoleKind,
    StartupTask,
    TaskType,
    TopologyChangeDiscovery,
    examine,
    load,
    parse_instance_value,
)

EVERYTHING = """[service]
name = "everything"
topology_change_discovery = "Blast"
upgrade_domain_count = 7
[service.probes.Health]
path = "/healthz"
port = 99
interval_seconds = 5
timeout_seconds = 11

[roles."Shop.Web"]
kind = "web"
entry_point = "shop:Web"
execution_context = "elevated"
instances = 2
[roles."Shop.Web".environment]
PLAIN = 4
EMULATED = { xpath = "/RoleEnvironment/Deployment/@emulated" }
[roles."Shop.Web".endpoints.Https]
protocol = "https"
port = 443
local_port = "*"
certificate = "Tls"
ignore_role_instance_status = true
probe = "Health"
[roles."Shop.Web".internal_endpoints]
Any = { protocol = "any" }
One = { port = 5 }
Some = { ports = [6, 8] }
[roles."Shop.Web".instance_input_endpoints.Debug]
protocol = "udp"
local_port = 9
public_ports = [10, 11]
[roles."Shop.Web".certificates.Tls]
thumbprint = "0123456789ABCDEF0123456789ABCDEF01234567"
store_location = "CurrentUser"
store_name = "Root"
permission_level = "elevated"
[[roles."Shop.Web".startup]]
command = "a.sh"
[[roles."Shop.Web".startup]]
command = "b.sh -x"
type = "background"
execution_context = "elevated"
environment = { ID = { xpath = "/RoleEnvironment/CurrentInstance/@id" } }
[roles.Guest]
program = "bin/guest"
"""
TASK = '[roles."Shop.Web".startup.environment]'


def test_all_that_the_model_has_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text(EVERYTHING)
    examined = examine(path, {})
    assert (examined.errors, examined.warnings) == ((), ())
    model = examined.model
    assert model is not None
    assert model.topology_change_discovery is TopologyChangeDiscovery.BLAST
    assert model.upgrade_domain_count == 7
    assert model.probes["Health"] == LoadBalancerProbe(
        name="Health", protocol="http", path="/healthz", port=99, interval_seconds=5, timeout_seconds=11
    )
    web, guest = model.roles.values()
    assert (guest.entry_point, guest.program) == ("", "bin/guest")
    assert (web.kind, web.execution_context) == (RoleKind.WEB, ExecutionContext.ELEVATED)
    assert web.environment == {"PLAIN": "4"}
    assert web.instance_values == {"EMULATED": "/RoleEnvironment/Deployment/@emulated"}
    assert web.endpoints["Https"] == InputEndpoint(
        name="Https",
        protocol="https",
        port=443,
        local_port=0,
        certificate="Tls",
        ignore_role_instance_status=True,
        probe="Health",
    )
    assert list(web.internal_endpoints.values()) == [
        InternalEndpoint(name="Any", protocol="any"),
        InternalEndpoint(name="One", ports=PortRange(5, 5)),
        InternalEndpoint(name="Some", ports=PortRange(6, 8)),
    ]
    assert web.instance_input_endpoints["Debug"] == InstanceInputEndpoint(
        name="Debug", protocol="udp", local_port=9, public_ports=PortRange(10, 11)
    )
    assert web.certificates["Tls"] == Certificate(
        name="Tls",
        thumbprint="0123456789ABCDEF0123456789ABCDEF01234567",
        store_location="CurrentUser",
        store_name="Root",
        permission_level="elevated",
    )
    assert web.startup_tasks == (
        StartupTask(command_line="a.sh"),
        StartupTask(
            command_line="b.sh -x",
            task_type=TaskType.BACKGROUND,
            execution_context=ExecutionContext.ELEVATED,
            instance_values={"ID": "/RoleEnvironment/CurrentInstance/@id"},
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "code", "sentence"),
    [
        ('"Blast"', '"Slowly"', "M21", "topology change discovery is UpgradeDomainWalk or Blast"),
        ("upgrade_domain_count = 7", "upgrade_domain_count = 21", "M16", "from 1 to 20, not 21"),
        ('path = "/healthz"', 'path = "healthz"', "M14", 'the http probe "Health" needs a path'),
        ("interval_seconds = 5", "interval_seconds = 4", "M14", "from 5 to"),
        ('probe = "Health"', 'probe = "Helth"', "M14", 'no probe "Helth"; did you mean "Health"?'),
        ('kind = "web"', 'kind = "vm"', "M21", "a role's kind is worker or web"),
        ('entry_point = "shop:Web"', 'entry_point = "shop:Web"\nprogram = "x"', "M20", "not both"),
        ('certificate = "Tls"', "", "M12", 'the https endpoint "Https" needs a certificate'),
        ('certificate = "Tls"', 'certificate = "T"', "M13", 'declares no certificate "T"'),
        ("[6, 8]", "[8, 6]", "M29", "ends (6) before it begins (8)"),
        ("[6, 8]", "[6]", "M10", "ports is a range of ports: [first, last]"),
        ("{ port = 5 }", "{ port = 5, ports = [5, 6] }", "M10", "a port or a range, not both"),
        ("public_ports = [10, 11]", "public_ports = [10, 10]", "M30", "1 public ports are too few for 2 instances"),
        ("Any =", "Https =", "M08", 'the role has another endpoint "Https"'),
        ("0123456789ABCDEF0123456789ABCDEF01234567", "x", "M25", "40 hexadecimal digits"),
        ('command = "a.sh"', 'command = "/a.sh"', "M22", "begins with a path below approot: /a.sh"),
        ('command = "a.sh"', f'command = "a.sh"\n{TASK}\nA = {{}}', "M17", "either a value or an XPath"),
        ('command = "a.sh"', f'command = "a.sh"\n{TASK}\nTEMP = 1', "N03", 'the host sets the variable "TEMP" itself'),
        ('command = "a.sh"', "", "N06", 'needs "command", a text'),
        ('command = "b.sh -x"', 'command = "b.sh -x"\nkind = 1', "M28", 'unknown key "kind"'),
        ('type = "background"', 'type = "late"', "M21", "a task's type is simple, background or foreground"),
        ("CurrentInstance/@id", "CurrentInstance/@name", "M18", "none of the twelve"),
        ('command = "a.sh"', 'command = "a.sh"\nenvironment = {A = [1]}', "N04", "is text, a number"),
    ],
)
def test_each_rule_with_its_line(tmp_path: Path, old: str, new: str, code: str, sentence: str) -> None:
    path = tmp_path / "service.toml"
    assert EVERYTHING.count(old) == 1
    text = EVERYTHING.replace(old, new)
    path.write_text(text)
    (problem,) = examine(path, {}).errors
    assert problem.code == code
    assert sentence in problem.sentence
    before, _, after = EVERYTHING.partition(old)
    first, last = before.count("\n") + 1, text.count("\n") - after.count("\n") + 1
    near = problem.line in range(first, last + 1)
    header = text.splitlines()[problem.line - 1].startswith("[")
    assert near or (header and problem.line < first)


def test_a_byte_order_mark_of_a_script_is_found(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text(EVERYTHING)
    (tmp_path / "approot").mkdir()
    (tmp_path / "approot" / "b.sh").write_bytes(b"\xef\xbb\xbf#!/bin/sh\n")
    (problem,) = examine(tmp_path / "service.toml", {}).errors
    line = EVERYTHING[: EVERYTHING.index("b.sh")].count("\n") + 1
    assert (problem.code, problem.line) == ("M23", line)


def test_programs_are_refused_by_this_release(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text(EVERYTHING)
    with pytest.raises(ServiceModelError, match=r'N10: the role "Guest" is a program \(bin/guest\)'):
        load(tmp_path / "service.toml", {})


def test_a_nested_bomb_is_no_definition(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text("a = " + "[" * 50_000)
    (problem,) = examine(tmp_path / "service.toml", {}).errors
    assert problem.code == "N01"


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
