"""The old service's files as they are: what is read, what is ignored, what is refused, and in which time."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolehost.service_model import (
    Certificate,
    Examined,
    ExecutionContext,
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    LoadBalancerProbe,
    PortRange,
    RoleKind,
    ServiceModel,
    TaskType,
    TopologyChangeDiscovery,
)
from support.cloud_service import CSCFG, CSDEF, Copy

SETTING = '<Setting name="App.TimeoutSeconds" value="300"/>'
STORAGE = '<LocalStorage name="Scratch"/>'
PLUG_INS = "Microsoft.WindowsAzure.Plugins."
NAMESPACE = "http://schemas.microsoft.com/ServiceHosting/2008/10/ServiceDefinition"


def valid(examined: Examined) -> ServiceModel:
    assert examined.errors == ()
    assert examined.model is not None
    return examined.model


def test_the_sample_is_read_whole(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    model = valid(service.examine())
    assert (model.name, model.os_family, model.os_version) == ("ThumbnailCloudService", "6", "*")
    assert model.topology_change_discovery is TopologyChangeDiscovery.UPGRADE_DOMAIN_WALK
    assert model.upgrade_domain_count == 3
    assert model.probes["FrontHealth"] == LoadBalancerProbe(name="FrontHealth", protocol="http", path="/healthz")
    assert (model.source, model.configuration) == (service.directory / CSDEF, service.directory / CSCFG)
    back, front = model.roles.values()
    assert (back.name, back.kind, back.instances) == ("ThumbnailBackend", RoleKind.WORKER, 4)
    assert (back.entry_point, back.program) == ("thumbnail_backend.worker:WorkerRole", "")
    assert back.execution_context is ExecutionContext.LIMITED
    assert back.settings["Jobs.VisibilityTimeoutSeconds"] == "120"
    assert back.settings["App.CommandLine"] == "tools/thumbnailer {source} {target} Custom 100 100"
    assert list(back.instance_values) == ["EMULATED", "QUEUE_NAME"]
    sizes = {each.name: (each.size_in_mb, each.clean_on_role_recycle) for each in back.local_resources.values()}
    assert sizes == {
        "ThumbnailWork": (2048, True),
        "ToolCache": (512, False),
        "Scratch": (100, True),
        "DiagnosticStore": (4096, False),
    }
    assert back.contents == {"tools": Path("dist/thumbnailer")}
    assert back.internal_endpoints["Control"] == InternalEndpoint(name="Control")
    assert back.instance_input_endpoints["Debug"] == InstanceInputEndpoint(
        name="Debug", protocol="tcp", local_port=9229, public_ports=PortRange(30000, 30009)
    )
    thumbprint = "0123456789ABCDEF0123456789ABCDEF01234567"
    assert back.certificates["StorageTls"] == Certificate(name="StorageTls", thumbprint=thumbprint)
    assert (front.entry_point, front.program) == ("", "bin/frontend --bind-from-role")
    assert front.endpoints["HttpIn"] == InputEndpoint(
        name="HttpIn", protocol="http", port=80, local_port=8080, probe="FrontHealth"
    )
    assert front.internal_endpoints["Admin"].ports == PortRange(8081, 8081)


def test_startup_tasks_are_read_in_their_order(tmp_path: Path) -> None:
    log, install, flush = valid(Copy(tmp_path).examine()).roles["ThumbnailBackend"].startup_tasks
    assert (log.command_line, log.task_type) == ("startup/log_agent.sh", TaskType.BACKGROUND)
    assert (install.command_line, install.task_type) == ("startup/install_codecs.sh --once", TaskType.SIMPLE)
    assert install.execution_context is ExecutionContext.ELEVATED
    assert install.environment == {"TOOLS_VERSION": "1.4.0"}
    assert install.instance_values["WORK_DIR"].endswith("LocalResource[@name='ThumbnailWork']/@path")
    assert (flush.task_type, flush.execution_context) == (TaskType.FOREGROUND, ExecutionContext.LIMITED)


def test_a_service_with_plug_ins_and_sites_is_read(tmp_path: Path) -> None:
    service = Copy(tmp_path, "cloud_service_pairs/plug_ins")
    model = valid(service.examine("Shop.csdef", ROLEHOST_CONFIGURATION=CSCFG))
    web, mailer = model.roles.values()
    assert (web.name, web.kind, web.execution_context) == ("Shop.Web", RoleKind.WEB, ExecutionContext.ELEVATED)
    assert web.settings["Catalogue.Connection"] == 'Server=db.example;Password="a<b&c"'
    assert web.settings[f"{PLUG_INS}RemoteForwarder.Enabled"] == "true"
    assert web.settings["_Preview"] == ""
    assert set(web.certificates) == {"Tls"}  # nobody has to install those of plug-ins that are not there
    assert (web.endpoints["Https"].certificate, web.endpoints["Https"].local_port) == ("Tls", 0)
    assert not web.local_resources[f"{PLUG_INS}Caching.FileStore"].clean_on_role_recycle
    assert mailer.entry_point == ""
    assert mailer.startup_tasks[0].command_line == "Startup\\install.cmd"


def test_what_has_no_meaning_here_is_named(tmp_path: Path) -> None:
    service = Copy(tmp_path, "cloud_service_pairs/plug_ins")
    told = service.told(service.examine("Shop.csdef", ROLEHOST_CONFIGURATION=CSCFG).warnings)
    for expected in (
        'Shop.csdef:5: warning: N08: vmsize="Medium" is ignored',
        "Shop.csdef:6: warning: N08: <Sites> is ignored: there is no IIS",
        'N08: the plug-in "RemoteForwarder" is ignored',
        'N08: the plug-in "Caching" is ignored',
        f'{CSCFG}:15: warning: N08: the certificate "{PLUG_INS}RemoteAccess.PasswordEncryption" is ignored',
        "M28: unknown element <Gadgets> in <WorkerRole>: it is ignored",
        f'{CSCFG}:2: warning: N08: osFamily="3" is ignored',
        f'{CSCFG}:4: warning: N08: vmName="web" is ignored',
        'N09: nothing says which Python class the role "Shop.Web" is: name it in entry_points.toml',
        'N09: nothing says which Python class the role "Shop.Mailer" is',
    ):
        assert any(expected in each for each in told), expected
    assert not any("xsi" in each or "schema" in each for each in told)


def test_a_setting_of_a_plug_in_that_is_not_imported(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSCFG, SETTING, f'{SETTING}\n<Setting name="{PLUG_INS}RemoteAccess.Enabled" value="true"/>')
    (problem,) = service.examine().errors
    assert problem.code == "M05"
    assert problem.sentence.endswith('the plug-in "RemoteAccess" is not imported')


@pytest.mark.parametrize("thumbprint", ["", "0a 1b"])
def test_a_plug_in_s_certificate_may_have_any_thumbprint(tmp_path: Path, thumbprint: str) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, '<Import moduleName="Diagnostics"/>', '<Import moduleName="RemoteAccess"/>')
    certificate = f'<Certificate name="{PLUG_INS}RemoteAccess.PasswordEncryption" thumbprint="{thumbprint}"/>'
    service.change(CSCFG, "<Certificates>", f"<Certificates>{certificate}")
    assert set(valid(service.examine()).roles["ThumbnailBackend"].certificates) == {"StorageTls"}


def test_a_probe_s_path_is_taken_without_its_slash_too(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, 'path="/healthz"', 'path="Probe.aspx"')
    assert valid(service.examine()).probes["FrontHealth"].path == "/Probe.aspx"


def test_the_first_version_of_the_schema_is_read(tmp_path: Path) -> None:
    service = Copy(tmp_path, "cloud_service_pairs/first_version")
    examined = service.examine()
    (role,) = valid(examined).roles.values()
    assert role.endpoints["HttpIn"].port == 80
    assert role.local_resources["Uploads"].size_in_mb == 10
    assert any("<VirtualMachineRole> is ignored" in problem.sentence for problem in examined.warnings)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "windows-1252", "iso-8859-1"])
def test_encodings_of_real_files(tmp_path: Path, encoding: str) -> None:
    service = Copy(tmp_path)
    service.change(CSCFG, 'value="300"', 'value="dreihundert, schön"')
    for file in (CSDEF, CSCFG):
        path = service.directory / file
        declared = encoding.removesuffix("-sig").removesuffix("-le").removesuffix("-be")
        path.write_bytes(path.read_text("utf-8").replace("utf-8", declared).replace("\n", "\r\n").encode(encoding))
    model = valid(service.examine())
    assert model.roles["ThumbnailBackend"].settings["App.TimeoutSeconds"] == "dreihundert, schön"


def test_a_mark_counts_more_than_the_declaration(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    path = service.directory / CSDEF
    path.write_bytes(path.read_text("utf-8").encode("utf-16"))  # which still says utf-8
    assert valid(service.examine()).name == "ThumbnailCloudService"


@pytest.mark.parametrize("port", ["*", "0"])
def test_an_internal_endpoint_may_say_that_any_port_will_do(tmp_path: Path, port: str) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, 'name="Control" protocol="tcp"', f'name="Control" protocol="tcp" port="{port}"')
    assert valid(service.examine()).roles["ThumbnailBackend"].internal_endpoints["Control"].ports is None


def test_lines_are_those_of_the_attribute(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, STORAGE, '<!-- a > b\n -->\n<LocalStorage\n name="Scratch"\n\n sizeInMB="0"\n/>')
    (problem,) = service.examine().errors
    assert problem.line == service.line_of(CSDEF, 'sizeInMB="0"')


def test_m28_what_is_unknown_is_named_and_ignored(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, STORAGE, f'{STORAGE}\n<LocalStorge name="X"><Deep/></LocalStorge>')
    service.change(CSDEF, 'sizeInMB="512"', 'sizeInMb="512"')
    service.change(CSCFG, SETTING, f'{SETTING}\n<o:Setting xmlns:o="urn:other" name="X" value=""/>')
    examined = service.examine()
    assert examined.errors == ()
    sized, stored = (service.line_of(CSDEF, text) for text in ("sizeInMb", "<LocalStorge"))
    foreign = service.line_of(CSCFG, "o:Setting")
    told = [each for each in service.told(examined.warnings) if "M28" in each]
    assert told == [
        (
            f"{CSDEF}:{sized}: warning: M28: unknown attribute sizeInMb of <LocalStorage>: "
            'it is ignored; did you mean "sizeInMB"?'
        ),
        (
            f"{CSDEF}:{stored}: warning: M28: unknown element <LocalStorge> in "
            '<LocalResources>: it is ignored; did you mean "LocalStorage"?'
        ),
        (
            f"{CSCFG}:{foreign}: warning: M28: unknown element <Setting> in "
            "<ConfigurationSettings>: it is ignored; its namespace is urn:other"
        ),
    ]


def test_one_file_that_cant_be_read_hides_nothing_in_the_other(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    service.change(CSDEF, 'sizeInMB="512"', 'sizeInMB="0"')
    service.change(CSCFG, "</ServiceConfiguration>", "")
    assert [problem.code for problem in service.examine().errors] == ["M09", "N01"]
