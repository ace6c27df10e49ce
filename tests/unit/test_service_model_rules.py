"""Each rule of a definition in XML, broken by a change to a service that keeps them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cloud_service import CSCFG, CSDEF, Copy

DEFINITION = 'xmlns="http://schemas.microsoft.com/ServiceHosting/2008/10/ServiceDefinition"'
PROGRAM = '<ProgramEntryPoint commandLine="bin/frontend --bind-from-role" setReadyOnProcessStart="true"/>'
CLASS = '<NetFxEntryPoint assemblyName="thumbnail_backend.worker:WorkerRole" targetFrameworkVersion="v4.0"/>'
BACKEND = '<Role name="ThumbnailBackend">'
SETTING = '<Setting name="App.TimeoutSeconds" value="300"/>'
SETTING_PATH = "ConfigurationSettings/ConfigurationSetting[@name='Jobs.QueueName']/@value"
MAX_DEQUEUE = '<Setting name="Jobs.MaxDequeueCount"/>'
CERTIFICATE = '<Certificate name="StorageTls" storeLocation="LocalMachine" storeName="My" permissionLevel='
GIVEN = (
    '<Certificate name="StorageTls" thumbprint="0123456789ABCDEF0123456789ABCDEF01234567" thumbprintAlgorithm="sha1"/>'
)
STORAGE = '<LocalStorage name="Scratch"/>'
CONTROL = '<InternalEndpoint name="Control" protocol="tcp"/>'
HTTP = 'name="HttpIn" protocol="http" port="80" localPort="8080"'
LOG_AGENT = 'commandLine="startup/log_agent.sh"'
TOOLS = '<Variable name="TOOLS_VERSION" value="1.4.0"/>'
PROBE = 'intervalInSeconds="15" timeoutInSeconds="31"'
ACL = '<EndpointAcl role="ThumbnailFrontend" endpoint="HttpIn" accessControl="office"/>'


def internal(count: int) -> str:
    return "".join(f'<InternalEndpoint name="I{number}" protocol="tcp"/>' for number in range(count))


# The code; the file; what is there, and what takes its place; what stands in the line; what is told.
BROKEN = [
    ("M01", CSDEF, DEFINITION, 'xmlns="urn:other"', "<ServiceDefinition", "not <ServiceDefinition> in urn:other"),
    ("M01", CSDEF, DEFINITION, "", "<ServiceDefinition", "not <ServiceDefinition> in none"),
    (
        "M02",
        CSCFG,
        'serviceName="ThumbnailCloudService"',
        'serviceName="Other"',
        "serviceName",
        'serviceName is "Other"',
    ),
    ("M05", CSCFG, SETTING, f'{SETTING}<Setting name="X" value=""/>', 'name="X"', 'declares no setting "X"'),
    ("M06", CSDEF, MAX_DEQUEUE, f'{MAX_DEQUEUE}\n<Setting name="X"/>', 'name="X"', 'the setting "X" of the role'),
    ("M06", CSCFG, SETTING, '<Setting name="App.TimeoutSeconds"/>', "App.TimeoutSeconds", "has no value"),
    (
        "M07",
        CSCFG,
        "  <NetworkConfiguration>",
        '<Role name="X"><Instances count="1"/></Role><NetworkConfiguration>',
        'name="X"',
        'no role "X"',
    ),
    (
        "M08",
        CSDEF,
        MAX_DEQUEUE,
        MAX_DEQUEUE * 2,
        "Jobs.MaxDequeueCount",
        'the setting "Jobs.MaxDequeueCount" is declared twice',
    ),
    ("M08", CSCFG, SETTING, SETTING * 2, SETTING, 'the setting "App.TimeoutSeconds" is declared twice'),
    ("M08", CSDEF, STORAGE, STORAGE * 2, STORAGE, 'the local resource "Scratch" is declared twice'),
    (
        "M08",
        CSDEF,
        STORAGE,
        f'{STORAGE}\n<LocalStorage name="scratch"/>',
        '"scratch"',
        '"scratch" and "Scratch" differ in case only',
    ),
    ("M08", CSDEF, CONTROL, CONTROL * 2, CONTROL, 'the endpoint "Control" is declared twice'),
    (
        "M08",
        CSDEF,
        'name="Debug"',
        'name="Control"',
        "<InstanceInputEndpoint",
        'the role has another endpoint "Control"',
    ),
    ("M08", CSDEF, TOOLS, TOOLS * 2, TOOLS, 'the variable "TOOLS_VERSION" is declared twice'),
    (
        "M09",
        CSDEF,
        'sizeInMB="512"',
        'sizeInMB="0"',
        'sizeInMB="0"',
        "sizeInMB is a whole number from 1 to 2147483648, not 0",
    ),
    ("M09", CSDEF, 'sizeInMB="512"', 'sizeInMB="much"', 'sizeInMB="much"', "not 'much'"),
    ("M10", CSDEF, 'port="80" ', 'port="70000" ', "70000", "port is a whole number from 1 to 65535, not 70000"),
    ("M10", CSDEF, 'port="80" ', "", "HttpIn", 'the endpoint "HttpIn" needs a port'),
    ("M10", CSDEF, 'localPort="8080"', 'localPort="0"', 'localPort="0"', "localPort is a whole number"),
    ("M10", CSDEF, 'min="30000"', 'min="0"', 'min="0"', "min is a whole number from 1 to 65535, not 0"),
    ("M10", CSDEF, '<FixedPort port="8081"/>', '<FixedPort port="x"/>', 'port="x"', "port is a whole number"),
    (
        "M11",
        CSDEF,
        '<InternalEndpoint name="Admin"',
        '<InputEndpoint name="Again" protocol="tcp" port="80"/><InternalEndpoint name="Admin"',
        "Again",
        'port 80 is already that of "ThumbnailFrontend", endpoint "HttpIn"',
    ),
    (
        "M12",
        CSDEF,
        'name="HttpIn" protocol="http"',
        'name="HttpIn" protocol="https"',
        "HttpIn",
        'the https endpoint "HttpIn" needs a certificate',
    ),
    ("M13", CSDEF, HTTP, f'{HTTP} certificate="Tls"', "HttpIn", 'the role declares no certificate "Tls"'),
    (
        "M14",
        CSDEF,
        'loadBalancerProbe="FrontHealth"',
        'loadBalancerProbe="FrontHelth"',
        "FrontHelth",
        'no probe "FrontHelth"; did you mean "FrontHealth"?',
    ),
    ("M14", CSDEF, ' path="/healthz"', "", "<LoadBalancerProbe ", 'the http probe "FrontHealth" needs a path'),
    ("M14", CSDEF, 'protocol="http" path', 'protocol="tcp" path', "path=", "can't have a path"),
    (
        "M14",
        CSDEF,
        PROBE,
        'intervalInSeconds="4" timeoutInSeconds="31"',
        "interval",
        "intervalInSeconds is a whole number from 5",
    ),
    (
        "M14",
        CSDEF,
        PROBE,
        'intervalInSeconds="15" timeoutInSeconds="10"',
        "timeout",
        "timeoutInSeconds is a whole number from 11",
    ),
    ("M15", CSDEF, CONTROL, CONTROL + internal(5), "<WorkerRole", "at most 5 internal endpoints"),
    (
        "M15",
        CSDEF,
        CONTROL,
        CONTROL + "".join(f'<InputEndpoint name="E{n}" protocol="tcp" port="{9000 + n}"/>' for n in range(22)),
        "<ServiceDefinition",
        "at most 25 endpoints, this one has 26",
    ),
    (
        "M16",
        CSDEF,
        'upgradeDomainCount="3"',
        'upgradeDomainCount="21"',
        "upgradeDomainCount",
        "upgradeDomainCount is a whole number from 1 to 20, not 21",
    ),
    ("M16", CSDEF, 'upgradeDomainCount="3"', 'upgradeDomainCount="0"', "upgradeDomainCount", "not 0"),
    ("M17", CSDEF, TOOLS, '<Variable name="TOOLS_VERSION"/>', "TOOLS_VERSION", "neither a value nor"),
    (
        "M17",
        CSDEF,
        '<Variable name="EMULATED">',
        '<Variable name="EMULATED" value="1">',
        "EMULATED",
        "both a value and",
    ),
    ("M18", CSDEF, "Deployment/@emulated", "Deployment/@name", '@name"', "none of the twelve XPaths"),
    (
        "M18",
        CSDEF,
        SETTING_PATH,
        SETTING_PATH.replace("Jobs.Queue", "Jobs.Other"),
        "OtherName",
        'the setting "Jobs.OtherName", which',
    ),
    ("M18", CSDEF, "[@name='ThumbnailWork']", "[@name='Work']", "'Work'", 'the local resource "Work", which'),
    (
        "M18",
        CSDEF,
        "Deployment/@emulated",
        "CurrentInstance/Endpoints/Endpoint[@name='X']/@port",
        "'X'",
        'the endpoint "X", which',
    ),
    (
        "M19",
        CSDEF,
        'setReadyOnProcessStart="true"',
        'setReadyOnProcessStart="false"',
        "setReady",
        'setReadyOnProcessStart is "true", not "false"',
    ),
    ("M20", CSDEF, PROGRAM, "", "<EntryPoint>\n        \n", 'the role "ThumbnailFrontend" has no way to start'),
    ("M20", CSDEF, CLASS, CLASS + PROGRAM, "<EntryPoint>", "more than one way to start"),
    (
        "M21",
        CSDEF,
        'taskType="background"',
        'taskType="later"',
        "later",
        'a task\'s type is simple, background or foreground, not "later"',
    ),
    (
        "M21",
        CSDEF,
        '<Runtime executionContext="limited">',
        '<Runtime executionContext="root">',
        "root",
        "an execution context is limited or elevated",
    ),
    ("M21", CSDEF, 'executionContext="elevated"', 'executionContext="Elevated"', "Elevated", "an execution context is"),
    (
        "M21",
        CSDEF,
        'name="HttpIn" protocol="http"',
        'name="HttpIn" protocol="sctp"',
        "HttpIn",
        "a protocol is http, https, udp or tcp",
    ),
    ("M21", CSDEF, 'name="Debug" protocol="tcp"', 'name="Debug" protocol="http"', "Debug", "a protocol is udp or tcp"),
    ("M21", CSDEF, 'storeLocation="LocalMachine"', 'storeLocation="Here"', "Here", "a store's location is"),
    ("M21", CSDEF, "UpgradeDomainWalk", "Slowly", "Slowly", "topology change discovery is UpgradeDomainWalk or Blast"),
    ("M21", CSCFG, 'action="permit"', 'action="maybe"', "maybe", "a rule's action is permit or deny"),
    (
        "M21",
        CSCFG,
        'thumbprintAlgorithm="sha1"',
        'thumbprintAlgorithm="md5"',
        "md5",
        "a thumbprint's algorithm is sha1",
    ),
    ("M22", CSDEF, LOG_AGENT, 'commandLine="/bin/sh x"', "/bin/sh", "begins with a path below approot: /bin/sh x"),
    ("M22", CSDEF, LOG_AGENT, 'commandLine="C:\\x.cmd"', "C:", "begins with a path below approot"),
    (
        "M22",
        CSDEF,
        LOG_AGENT,
        'commandLine="%RoleRoot%\\approot\\x.cmd"',
        "%RoleRoot%",
        "begins with a path below approot",
    ),
    (
        "M22",
        CSDEF,
        'commandLine="bin/frontend',
        'commandLine="/bin/frontend',
        "/bin/frontend",
        "begins with a path below approot",
    ),
    (
        "M24",
        CSCFG,
        'count="4"',
        'count="0"',
        'count="0"',
        "the count of <Instances> is a whole number from 1 to 1000, not 0",
    ),
    ("M24", CSCFG, 'count="4"', 'count="four"', 'count="four"', "not 'four'"),
    (
        "M25",
        CSCFG,
        "0123456789ABCDEF0123456789ABCDEF01234567",
        "01 23",
        "01 23",
        '40 hexadecimal digits in upper case, without spaces; that of "StorageTls"',
    ),
    (
        "M25",
        CSCFG,
        "0123456789ABCDEF0123456789ABCDEF01234567",
        "0123456789abcdef0123456789abcdef01234567",
        "abcdef",
        "upper case",
    ),
    ("M26", CSCFG, GIVEN, GIVEN + GIVEN.replace("StorageTls", "Other"), "Other", 'declares no certificate "Other"'),
    ("M27", CSCFG, ACL, ACL.replace("ThumbnailFrontend", "Nobody"), "Nobody", 'there is no role "Nobody"'),
    ("M27", CSCFG, ACL, ACL.replace("HttpIn", "HttpOut"), "HttpOut", 'has no input endpoint "HttpOut"'),
    ("M27", CSCFG, ACL, ACL.replace('"office"', '"home"'), '"home"', 'there is no access control "home"'),
    ("M29", CSDEF, 'min="30000"', 'min="30010"', "30010", "the range of ports ends (30009) before it begins (30010)"),
    ("M30", CSDEF, 'max="30009"', 'max="30002"', "30002", "3 public ports are too few for 4 instances"),
    (
        "N07",
        CSDEF,
        '<LocalStorage name="Scratch"/>',
        "<LocalStorage/>",
        "<LocalStorage/>",
        '<LocalStorage> needs the attribute "name"',
    ),
    ("N07", CSDEF, ' targetFrameworkVersion="v4.0"', "", "<NetFx", 'needs the attribute "targetFrameworkVersion"'),
    ("N07", CSCFG, '<Instances count="4"/>', "", BACKEND, 'the role "ThumbnailBackend" needs <Instances count="...">'),
    ("N05", CSDEF, 'LocalStorage name="Scratch"', 'LocalStorage name="../x"', "../x", '"../x" is no name'),
    (
        "N04",
        CSDEF,
        'cleanOnRoleRecycle="true"',
        'cleanOnRoleRecycle="maybe"',
        "maybe",
        "cleanOnRoleRecycle is true or false",
    ),
]


def test_the_sample_keeps_every_rule(tmp_path: Path) -> None:
    examined = Copy(tmp_path).examine()
    assert examined.errors == ()
    assert {problem.code for problem in examined.warnings} == {"N08"}


@pytest.mark.parametrize("broken", BROKEN, ids=[f"{each[0]}-{number}" for number, each in enumerate(BROKEN)])
def test_each_rule_of_the_old_files(tmp_path: Path, broken: tuple[str, str, str, str, str, str]) -> None:
    code, file, old, new, there, sentence = broken
    service = Copy(tmp_path)
    service.change(file, old, new)
    (problem,) = service.examine().errors
    told = str(problem).replace(f"{service.directory}/", "")
    assert told.startswith(f"{file}:{service.line_of(file, there)}: {code}: "), told
    assert sentence in problem.sentence
    assert "\n" not in told


def test_every_rule_is_broken_by_one_of_these() -> None:
    elsewhere = {"M03", "M04", "M23", "M28"}
    codes = {each[0] for each in BROKEN} | elsewhere
    assert {f"M{number:02}" for number in range(1, 31)} <= codes


def test_m03_a_role_is_declared_twice(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    again = '<WorkerRole name="ThumbnailFrontend"/>\n  <NetworkTrafficRules>'
    service.change(CSDEF, "<NetworkTrafficRules>", again)
    service.change(CSCFG, "<NetworkConfiguration>", f'{BACKEND}\n<Instances count="1"/></Role>\n<NetworkConfiguration>')
    line = service.line_of(CSCFG, "<NetworkConfiguration>") - 2
    assert service.told(service.examine().errors) == [
        f'{CSDEF}:{service.line_of(CSDEF, again)}: M03: the role "ThumbnailFrontend" is declared twice',
        f'{CSCFG}:{line}: M03: the role "ThumbnailBackend" is declared twice',
    ]


@pytest.mark.parametrize("count", [0, 26])
def test_m04_a_service_has_1_to_25_roles(tmp_path: Path, count: int) -> None:
    service = Copy(tmp_path, "cloud_service_pairs/first_version")
    namespace = "http://schemas.microsoft.com/ServiceHosting/2008/10/Service"
    roles = "".join(f'<WorkerRole name="R{number}"/>' for number in range(count))
    (service.directory / CSDEF).write_text(
        f'\n<ServiceDefinition name="S" xmlns="{namespace}Definition">{roles}</ServiceDefinition>'
    )
    given = "".join(f'<Role name="R{number}"><Instances count="1"/></Role>' for number in range(count))
    (service.directory / "ServiceConfiguration.cscfg").write_text(
        f'<ServiceConfiguration serviceName="S" xmlns="{namespace}Configuration">{given}</ServiceConfiguration>'
    )
    assert service.told(service.examine().errors) == [
        f"{CSDEF}:2: M04: a service has 1 to 25 roles, this one has {count}"
    ]


def test_m07_a_role_is_in_the_definition_only(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, "<NetworkTrafficRules>", '<WorkerRole name="Third"/>\n<NetworkTrafficRules>')
    (problem,) = service.examine().errors
    assert (problem.code, problem.line) == ("M07", service.line_of(CSDEF, "Third"))
    assert problem.sentence == 'the configuration has no role "Third"'


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])
def test_m23_a_script_begins_with_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    service = Copy(tmp_path)
    script = service.directory / "startup/install_codecs.sh"
    script.write_bytes(mark + script.read_bytes())
    (problem,) = service.examine().errors
    assert (problem.code, problem.line) == ("M23", service.line_of(CSDEF, "install_codecs.sh"))
    assert f"the script {script} begins with a byte-order mark" in problem.sentence


def test_m26_a_certificate_is_in_the_definition_only(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSCFG, GIVEN, "")
    (problem,) = service.examine().errors
    assert (problem.code, problem.line) == ("M26", service.line_of(CSDEF, CERTIFICATE))
    assert 'the certificate "StorageTls" of the role "ThumbnailBackend" has no thumbprint' in problem.sentence


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    changes = [each for each in BROKEN if each[0] in {"M02", "M05", "M09", "M16", "M19", "M21", "M27", "M30"}]
    made = set()
    for code, file, old, new, _, _ in changes:
        if code not in made:
            service.change(file, old, new)
            made.add(code)
    errors = service.examine().errors
    assert {problem.code for problem in errors} == made
    places = [(problem.file.endswith(CSCFG), problem.line) for problem in errors]
    assert places == sorted(places), "in the order of the files"
