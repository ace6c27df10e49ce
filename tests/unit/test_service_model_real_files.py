"""Files as the tools and people of the original left them: they load, and what has no meaning is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolehost.service_model import Examined, RoleModel, examine

SCHEMA = "http://schemas.microsoft.com/ServiceHosting/2008/10/Service"
PRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
CLASS = '<NetFxEntryPoint assemblyName="a" targetFrameworkVersion="v4.0"/>'
SOURCE = '<SourceDirectory path="x"/>'
CSDEF = "ServiceDefinition.csdef"
CSCFG = "ServiceConfiguration.cscfg"


class Pair:
    """Two files about a role R, of which a test says the inside."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def examine(self, inside: str = "", given: str = "", *, definition: str = "", **environ: str) -> Examined:
        role = definition or f'<WorkerRole name="R">\n{inside}\n</WorkerRole>'
        (self._directory / CSDEF).write_text(
            f'<ServiceDefinition name="S" xmlns="{SCHEMA}Definition">\n{role}\n</ServiceDefinition>', encoding="utf-8"
        )
        (self._directory / CSCFG).write_text(
            f'<ServiceConfiguration serviceName="S" xmlns="{SCHEMA}Configuration">\n<Role name="R">\n'
            f'<Instances count="1"/>\n{given}\n</Role>\n</ServiceConfiguration>',
            encoding="utf-8",
        )
        return examine(self._directory / CSDEF, environ)

    def role(self, inside: str = "", given: str = "") -> RoleModel:
        examined = self.examine(inside, given)
        assert examined.errors == ()
        assert examined.model is not None
        return examined.model.roles["R"]

    def errors(self, inside: str = "", given: str = "", *, definition: str = "") -> list[str]:
        problems = self.examine(inside, given, definition=definition).errors
        return [str(problem).replace(f"{self._directory}/", "") for problem in problems]

    def warnings(self, inside: str = "", given: str = "") -> list[str]:
        problems = self.examine(inside, given).warnings
        return [str(problem).replace(f"{self._directory}/", "") for problem in problems]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def task(command: str, inside: str = "") -> str:
    return f'<Startup><Task commandLine="{command}">{inside}</Task></Startup>'


def started(inside: str) -> str:
    return f"<Runtime><EntryPoint>{inside}</EntryPoint></Runtime>"


def variable(name: str, inside: str) -> str:
    return f'<Environment><Variable name="{name}">{inside}</Variable></Environment>'


def test_names_of_real_services(pair: Pair) -> None:
    role = pair.role(
        """<ConfigurationSettings><Setting name="Owin:App Startup"/>
        <Setting name="2nd/Queue (old)"/></ConfigurationSettings>
        <LocalResources><LocalStorage name="Temp Storage"/><LocalStorage name="_cache"/></LocalResources>
        <Endpoints><InputEndpoint name="HTTPS In" protocol="https" port="443" certificate="www.example.com 2014"/>
        </Endpoints>
        <Certificates><Certificate name="www.example.com 2014" storeLocation="LocalMachine" storeName="CA"/>
        </Certificates>""",
        f"""<ConfigurationSettings><Setting name="Owin:App Startup" value="x"/>
        <Setting name="2nd/Queue (old)" value=""/></ConfigurationSettings>
        <Certificates><Certificate name="www.example.com 2014" thumbprint="{PRINT}"/></Certificates>""",
    )
    assert role.settings == {"Owin:App Startup": "x", "2nd/Queue (old)": ""}
    assert list(role.local_resources) == ["Temp Storage", "_cache", "DiagnosticStore"]
    assert role.endpoints["HTTPS In"].certificate == "www.example.com 2014"


def test_settings_that_the_tools_wrote_for_themselves(pair: Pair) -> None:
    given = '<ConfigurationSettings>\n<Setting name="?IsSimulationEnvironment?" value="true"/></ConfigurationSettings>'
    assert pair.role("", given).settings == {}
    assert any(
        each.startswith(f'{CSCFG}:5: warning: N08: the setting "?IsSimulationEnvironment?" is ignored')
        for each in pair.warnings("", given)
    )


def test_a_temporary_directory_of_a_tasks_own(pair: Pair) -> None:
    path = "/RoleEnvironment/CurrentInstance/LocalResources/LocalResource[@name = 'Big']/@path"
    value = f'<RoleInstanceValue xpath="{path}"/>'
    (found,) = pair.role(
        f'<LocalResources><LocalStorage name="Big"/></LocalResources>{task("a.sh", variable("TEMP", value))}'
    ).startup_tasks
    assert found.instance_values == {"TEMP": path}


def test_a_variable_that_the_host_sets_is_named_and_left_out(pair: Pair) -> None:
    value = '<RoleInstanceValue xpath="/RoleEnvironment/CurrentInstance/@id"/>'
    inside = task("a.sh", f"\n{variable('RoleInstanceID', value)}")
    (found,) = pair.role(inside).startup_tasks
    assert found.instance_values == {}
    told = f'{CSDEF}:4: warning: N08: the variable "RoleInstanceID" is ignored: the host sets it itself'
    assert told in pair.warnings(inside)


def test_variables_with_odd_names(pair: Pair) -> None:
    plain = (
        '<Environment><Variable name="ProgramFiles(x86)" value="y"/><Variable name="a.b-c" value="z"/></Environment>'
    )
    (found,) = pair.role(f'<Startup><Task commandLine="a.sh">{plain}</Task></Startup>').startup_tasks
    assert found.environment == {"ProgramFiles(x86)": "y", "a.b-c": "z"}


def test_contents_are_read(pair: Pair) -> None:
    contents = """<Contents>
    <Content destination=".\\bin\\tools\\"><SourceDirectory path="..\\out\\%FLAVOUR%"/></Content>
    <Content destination="."><SourceDirectory path="all"/></Content>
    </Contents>"""
    examined = pair.examine(contents, FLAVOUR="Release")
    assert examined.model is not None
    assert examined.model.roles["R"].contents == {"bin/tools": Path("../out/Release"), ".": Path("all")}
    assert not any("Content" in each for each in pair.warnings(contents))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('<Content destination="a"/>', 'N07: the contents "a" have no <SourceDirectory>'),
        ('<Content><SourceDirectory path="x"/></Content>', 'N07: <Content> needs the attribute "destination"'),
        (
            '<Content destination="a"><SourceDirectory/></Content>',
            'N07: <SourceDirectory> needs the attribute "path"',
        ),
        (
            '<Content destination="../a"><SourceDirectory path="x"/></Content>',
            'M22: "../a" is no directory below approot',
        ),
        (
            f'<Content destination="a">{SOURCE}</Content><Content destination=".\\a">{SOURCE}</Content>',
            'M08: the contents ".\\a" have another source, too',
        ),
    ],
)
def test_contents_are_checked(pair: Pair, content: str, told: str) -> None:
    assert pair.errors(f"<Contents>\n{content}</Contents>") == [f"{CSDEF}:4: {told}"]


def test_prefixes_stand_for_namespaces(tmp_path: Path) -> None:
    (tmp_path / CSDEF).write_text(
        f'<d:ServiceDefinition xmlns:d="{SCHEMA}Definition" name="S"><d:WorkerRole name="R"/></d:ServiceDefinition>'
    )
    (tmp_path / CSCFG).write_text(
        f'<c:ServiceConfiguration xmlns:c="{SCHEMA}Configuration" serviceName="S">\n'
        '<c:Role name="R"><c:Instances count="0"/></c:Role></c:ServiceConfiguration>'
    )
    (problem,) = examine(tmp_path / CSDEF, {}).errors
    assert (problem.code, problem.line) == ("M24", 2)


def test_what_looks_like_markup_moves_no_line(pair: Pair) -> None:
    around = (
        '<![CDATA[<LocalStorage name="X"\n sizeInMB="0"/>]]><?tool <x\n a="1"?>\n<!-- <y\n b="2"> -->\n<!--> z\n -->'
    )
    allowed = "allowed are letters, digits, spaces, . - and _, none of space . - first"
    assert pair.errors(f"{around}<LocalResources>\n<LocalStorage\nname='a>b'\nsizeInMB = '0'/></LocalResources>") == [
        f'{CSDEF}:10: N05: "a>b" is no name in roles.R.local_resources: {allowed}',
        f"{CSDEF}:12: M09: sizeInMB is a whole number from 1 to 2147483648, not 0",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lines_count_whatever_they_end_with(pair: Pair, tmp_path: Path, end: str, encoding: str) -> None:
    pair.examine("\n\n<LocalResources><LocalStorage name='a' sizeInMB='0'/></LocalResources>")
    path = tmp_path / CSDEF
    text = path.read_text()
    path.write_bytes(text.replace("\n", end).encode(encoding))
    (problem,) = examine(path, {}).errors
    assert (problem.code, problem.line) == ("M09", 5)


def test_a_problem_is_one_line_whatever_the_value(pair: Pair) -> None:
    (told,) = pair.errors('<Runtime executionContext="a&#10;b&#9;c"/>')
    assert told == f'{CSDEF}:3: M21: an execution context is limited or elevated, not "a b c"'
    (told,) = pair.errors(f'<Runtime executionContext="{"c" * 5000}"/>')
    assert len(told) < 600


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        (task(" "), "M22: a command line names a program"),
        (
            started('<ProgramEntryPoint commandLine=" " setReadyOnProcessStart="true"/>'),
            "M22: a command line names a program",
        ),
        (
            started(f"{CLASS}</EntryPoint><EntryPoint>{CLASS}"),
            'M20: the role "R" has more than one <EntryPoint>',
        ),
        ("<Runtime/><Runtime/>", "N07: a role has at most one <Runtime>"),
        ("<Startup/><Startup/>", "N07: a role has at most one <Startup>"),
    ],
)
def test_what_is_there_once(pair: Pair, inside: str, told: str) -> None:
    assert pair.errors(inside) == [f"{CSDEF}:3: {told}"]


def test_a_role_has_one_count(pair: Pair) -> None:
    assert pair.errors("", '<Instances count="7"/>') == [f"{CSCFG}:4: N07: a role has at most one <Instances>"]


def test_an_invisible_character_of_a_thumbprint_is_named(pair: Pair) -> None:
    certificate = '<Certificates><Certificate name="C" storeLocation="LocalMachine" storeName="My"/></Certificates>'
    (told,) = pair.errors(
        certificate, f'<Certificates>\n<Certificate name="C" thumbprint="\u200e{PRINT}"/></Certificates>'
    )
    assert told.startswith(f"{CSCFG}:5: M25: ")
    assert told.endswith("it holds an invisible character (U+200E)")


def test_a_role_outside_the_schema_says_why(pair: Pair) -> None:
    examined = pair.examine(definition='<WorkerRole xmlns="" name="R"/>')
    assert [problem.code for problem in examined.errors] == ["M04", "M07"]
    (warning,) = examined.warnings
    assert (
        warning.sentence == "unknown element <WorkerRole> in <ServiceDefinition>: it is ignored; its namespace is none"
    )


def test_the_mapping_has_lines(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "entry_points.toml").write_text('[entry_points]\n\nR = "a b"\nQ = "m:C"\n')
    assert pair.errors() == [
        'entry_points.toml:3: M20: "a b" is no "module:Class"',
        'entry_points.toml:4: M07: the definition has no role "Q"',
    ]
