"""What `service.toml` says beyond roles, settings and public ports, and the rules that hold for it as for XML."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    unsupported,
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
        ('command = "a.sh"', f'command = "a.sh"\n{TASK}\nRoleRoot = 1', "N03", 'the host sets the variable "RoleRoot"'),
        ('command = "a.sh"', 'command = " "', "M22", "a command line names a program"),
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


def test_rights_that_nobody_sees_to_are_told(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text(EVERYTHING)
    found = unsupported(examine(path, {}))
    assert [(each.code, each.warning) for each in found] == [("N10", True)] * 2
    rights, key = found
    assert EVERYTHING.splitlines()[rights.line - 1] == 'execution_context = "elevated"'
    assert "it has those of the host" in rights.sentence
    assert EVERYTHING.splitlines()[key.line - 1] == 'permission_level = "elevated"'
    assert load(path, {}).name == "everything"


def test_a_name_that_is_used_twice_by_dots_is_told(tmp_path: Path) -> None:
    text = '[service]\nname = "s"\n[roles.R]\nentry_point = "m:C"\n[roles.R.settings]\n"A.B" = 1\nA.B = 2\n'
    (tmp_path / "service.toml").write_text(text)
    (problem,) = examine(tmp_path / "service.toml", {}).errors
    assert (problem.code, problem.line) == ("M08", 6)


@pytest.mark.parametrize(
    ("protocol", "first", "last", "told"),
    [
        ("udp", 9, 9, ""),
        ("udp", 10, 10, 'ports 10 to 10 hold some of 10 to 11, already that of "Shop.Web", endpoint "Debug"'),
        ("udp", 11, 12, 'ports 11 to 12 hold some of 10 to 11, already that of "Shop.Web", endpoint "Debug"'),
        ("tcp", 11, 12, ""),
        ("tcp", 400, 443, 'ports 400 to 443 hold 443, already that of "Shop.Web", endpoint "Https"'),
    ],
)
def test_public_ports_are_nobody_elses(tmp_path: Path, protocol: str, first: int, last: int, told: str) -> None:
    more = f"""[roles.Guest.instance_input_endpoints.More]
protocol = "{protocol}"
local_port = 1
public_ports = [{first}, {last}]
"""
    (tmp_path / "service.toml").write_text(EVERYTHING + more)
    errors = examine(tmp_path / "service.toml", {}).errors
    line = (EVERYTHING + more).count("\n")
    assert [(each.code, each.line, each.sentence) for each in errors] == ([("M11", line, told)] if told else [])


HOSTILE = {
    "nested": ("a = " + "[" * 50_000, "N01", "nested too deeply"),
    "dots": (f"[service]\nname = 's'\n[roles.R.settings]\n{'a.' * 20_000}a = 1", "N01", "nested too deeply"),
    "digits": (f"[service]\nname = {'1' * 5000}", "N01", "this is no TOML"),
    "hex": (f"[service]\nname = 's'\ndrain_seconds = 0x{'f' * 5000}", "N04", "a number of thousands of digits"),
    "seconds": (f"[service]\nname = 's'\ndrain_seconds = 1{'0' * 400}", "N04", "drain_seconds is a number of seconds"),
    "xml": ("<ServiceDefinition/>", "N01", "the name of a definition in XML ends in .csdef"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_definition_is_refused(tmp_path: Path, kind: str) -> None:
    text, code, told = HOSTILE[kind]
    (tmp_path / "service.toml").write_text(text)
    problem = next(each for each in examine(tmp_path / "service.toml", {}).errors if each.code == code)
    assert told in problem.sentence
    assert len(problem.sentence) < 600


def test_a_setting_is_no_number_without_end(tmp_path: Path) -> None:
    text = f"[service]\nname = 's'\n[roles.R]\nentry_point = 'm:C'\nsettings = {{A = 0x{'f' * 5000}}}"
    (tmp_path / "service.toml").write_text(text)
    (problem,) = examine(tmp_path / "service.toml", {}).errors
    assert problem.code == "N04"


def test_a_flood_of_problems_ends_here_too(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text("".join(f"unknown{n} = 1\n" for n in range(5000)))
    errors = examine(tmp_path / "service.toml", {}).errors
    assert len(errors) == 501
    assert any("there are more than 500 problems" in each.sentence for each in errors)


def test_lines_are_right_after_strings_of_several_lines(tmp_path: Path) -> None:
    text = """[service]
name = "s"
[roles.R]
entry_point = "m:C" # ''' is no string
[roles.R.settings]
Text = '''
[roles.R]
instances = 1
'''
Odd = "\u2028 \x85"
[roles.R.environment]
RoleName = "x"
[roles.R.local_resources.A]
size_in_mb = 0
[roles.S]
entry_point = "m:C"
settings.Basic = QUOTES
[roles.R.local_resources.A]
size_in_mb = 0
QUOTES
""".replace("QUOTES", '"' * 3)
    (tmp_path / "service.toml").write_bytes(text.replace("\n", "\r\n").encode())
    assert [(each.code, each.line) for each in examine(tmp_path / "service.toml", {}).errors] == [
        ("N03", 12),
        ("M09", 14),
    ]


CONTENTS = "[roles.R.contents]"


@pytest.mark.parametrize(
    ("contents", "code"),
    [
        ('"../x" = "a"', "M22"),
        ('"/x" = "a"', "M22"),
        ("'C:\\x' = 'a'", "M22"),
        ('"a/.." = "a"', "M22"),
        ("'a\\..\\..' = 'a'", "M22"),
        ('"a/b" = "x"\n\'a\\b\\\' = "y"', "M08"),
        ('a = ""', "N06"),
        ("a = 1", "N06"),
    ],
)
def test_contents_stay_below_approot(tmp_path: Path, contents: str, code: str) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f'[service]\nname = "s"\n[roles.R]\nentry_point = "m:C"\n{CONTENTS}\n{contents}\n')
    assert [problem.code for problem in examine(path, {}).errors] == [code]


def test_contents_may_come_from_where_a_variable_says(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    lines = "tools = '%DIST%\\bin'\nweb = '$(DIST)/web'\n'x.y/..z' = 'a/../b'\n. = '%UNSET%'"
    path.write_text(
        f'[service]\nname = "s"\n[roles.R]\nentry_point = "m:C"\n{CONTENTS}\n{lines}\n'.replace("\n. =", '\n"." =')
    )
    model = examine(path, {"DIST": "/srv/dist"}).model
    assert model is not None
    assert {name: str(source) for name, source in model.roles["R"].contents.items()} == {
        "tools": "/srv/dist/bin",
        "web": "/srv/dist/web",
        "x.y/..z": "a/../b",
        ".": "%UNSET%",
    }


TIMES = ("drain", "on_stop", "recycle", "heartbeat", "start", "changing", "status_check")


@pytest.mark.parametrize("name", TIMES)
def test_every_time_is_a_key_and_a_variable(tmp_path: Path, name: str) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f'[service]\nname = "s"\n{name}_seconds = 2\n[roles.R]\nentry_point = "m:C"\n')
    assert getattr(load(path, {}), f"{name}_seconds") == 2.0
    variable = f"ROLEHOST_{name.upper()}_SECONDS"
    assert getattr(load(path, {variable: "3.5"}), f"{name}_seconds") == 3.5
    (problem,) = examine(path, {variable: "0"}).errors
    assert (problem.code, problem.file) == ("N04", variable)


def test_the_times_of_a_service_that_says_none(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text('[service]\nname = "s"\n[roles.R]\nentry_point = "m:C"\n')
    model = load(path, {})
    assert (model.start_seconds, model.changing_seconds, model.status_check_seconds) == (1800, 30, 15)
    assert (model.on_stop_seconds, model.recycle_backoff) == (300, "rolehost")


@pytest.mark.parametrize("name", ["rolehost", "service_fabric", "kudu", "none"])
def test_the_recycle_back_off_is_chosen(tmp_path: Path, name: str) -> None:
    path = tmp_path / "service.toml"
    path.write_text(f'[service]\nname = "s"\nrecycle_backoff = "{name}"\n[roles.R]\nentry_point = "m:C"\n')
    assert load(path, {}).recycle_backoff == name
    assert load(path, {"ROLEHOST_RECYCLE_BACKOFF": "kudu"}).recycle_backoff == "kudu"
    (problem,) = examine(path, {"ROLEHOST_RECYCLE_BACKOFF": "fast"}).errors
    assert problem.code == "M21"
    path.write_text(path.read_text().replace(f'"{name}"', '"fast"'))
    (problem,) = examine(path, {}).errors
    assert (problem.code, problem.line) == ("M21", 3)


def test_the_diagnostic_store_is_every_roles(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    text = '[service]\nname = "s"\n[roles.R]\nentry_point = "m:C"\n'
    path.write_text(text)
    store = load(path, {}).roles["R"].local_resources["DiagnosticStore"]
    assert (store.size_in_mb, store.clean_on_role_recycle) == (4096, False)
    path.write_text(f"{text}[roles.R.local_resources.DiagnosticStore]\nsize_in_mb = 5000\n")
    store = load(path, {}).roles["R"].local_resources["DiagnosticStore"]
    assert (store.size_in_mb, store.clean_on_role_recycle) == (5000, True)
    path.write_text(f"{text}[roles.R.local_resources.diagnosticstore]\n")
    (problem,) = examine(path, {}).errors
    assert (problem.code, problem.line) == ("M08", 5)


def test_a_role_scales_to_a_thousand(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text('[service]\nname = "s"\n[roles.R]\nentry_point = "m:C"\n[roles.r-1]\nentry_point = "m:D"\n')
    assert load(path, {"ROLEHOST_INSTANCES_R": "1000"}).roles["R"].instances == 1000
    for wrong in ("1001", "0", "-1", "1e3", "\u0661", ""):
        (problem,) = examine(path, {"ROLEHOST_INSTANCES_R": wrong}).errors
        assert problem.code == "M24"


def test_a_variable_that_means_two_roles_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text('[service]\nname = "s"\n[roles."A.B"]\nentry_point = "m:C"\n[roles.A-B]\nentry_point = "m:D"\n')
    (problem,) = examine(path, {"ROLEHOST_INSTANCES_A_B": "2"}).errors
    assert (problem.code, problem.sentence) == ("M07", "this may be each of A.B, A-B")


STORES = """[service]
name = "s"
storage = "https://photos.blob.core.windows.net"
queue = "photos.servicebus.windows.net"
[roles.Work]
entry_point = "m:Work"
"""


def test_a_service_says_where_its_stores_are_and_the_environment_goes_over_it(tmp_path: Path) -> None:
    path = tmp_path / "service.toml"
    path.write_text(STORES)
    model = load(path, {})
    assert model.stores_over({"ROLEHOST_QUEUE": " "}) == {
        "ROLEHOST_STORAGE": "https://photos.blob.core.windows.net",
        "ROLEHOST_QUEUE": "photos.servicebus.windows.net",
    }
    assert model.stores_over({"ROLEHOST_STORAGE": "embedded"}).keys() == {"ROLEHOST_QUEUE"}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("AccountName=a;AccountKey=canary", "holds a secret"),
        ("BlobEndpoint=https://a/;sharedAccessSignature=sv=1&sig=canary", "holds a secret"),
        ("https://a.blob.core.windows.net/?sv=1&sig=canary", "holds a secret"),
        ("", 'service needs "storage", a text'),
    ],
)
def test_a_definition_holds_no_secret(tmp_path: Path, value: str, told: str) -> None:
    path = tmp_path / "service.toml"
    path.write_text(STORES.replace("https://photos.blob.core.windows.net", value))
    (problem,) = examine(path, {}).errors
    assert told in problem.sentence
    assert "canary" not in str(problem)
