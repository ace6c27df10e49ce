"""What may change while a service runs, what did, and who has to start again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rolehost.errors import ServiceModelError
from rolehost.service_model import (
    RecycleBackoff,
    ServiceModel,
    TopologyChangeDiscovery,
    differences,
    load,
    needs_restart,
    read_update,
    refusals,
    scaling_refusals,
)
from support.cloud_service import CSCFG, CSDEF, Copy

DEFINITION = """[service]
name = "s"
upgrade_domain_count = 3
[service.probes.Health]
protocol = "tcp"
[roles.Web]
entry_point = "m:Web"
instances = 2
settings = { Colour = "red", Size = 1 }
environment = { THREADS = 4 }
[roles.Web.endpoints.Http]
protocol = "https"
port = 443
certificate = "Tls"
[roles.Web.certificates.Tls]
thumbprint = "0123456789ABCDEF0123456789ABCDEF01234567"
[roles.Web.local_resources.Cache]
size_in_mb = 200
[[roles.Web.startup]]
command = "install.sh"
[roles.Back]
entry_point = "m:Back"
"""
OTHER_THUMBPRINT = "F" * 40


@pytest.fixture
def running(tmp_path: Path) -> ServiceModel:
    path = tmp_path / "service.toml"
    path.write_text(DEFINITION)
    return load(path, {})


@pytest.fixture
def changed(tmp_path: Path, running: ServiceModel) -> Callable[..., ServiceModel]:
    def change(*pairs: tuple[str, str], **environ: str) -> ServiceModel:
        text = DEFINITION
        for old, new in pairs:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (tmp_path / "service.toml").write_text(text)
        return read_update(tmp_path / "service.toml", running, environ)

    return change


Change = Callable[..., ServiceModel]

FREE = [
    ('Colour = "red"', 'Colour = "green"'),
    ("Size = 1", "Length = 1"),
    ("instances = 2", "instances = 5"),
    ("0123456789ABCDEF0123456789ABCDEF01234567", OTHER_THUMBPRINT),
    ('name = "s"', 'name = "s"\ndrain_seconds = 3'),
    ('name = "s"', 'name = "s"\nstatus_check_seconds = 3'),
    ('name = "s"', 'name = "s"\nrecycle_backoff = "kudu"'),
    ('name = "s"', 'name = "s"\ntopology_change_discovery = "Blast"'),
    ('protocol = "tcp"', 'protocol = "tcp"\ninterval_seconds = 9'),
    ('entry_point = "m:Back"', 'entry_point = "m:Other"'),  # of the other role
]
BINDING = [
    ('entry_point = "m:Web"', 'entry_point = "m:Other"'),
    ('entry_point = "m:Web"', 'program = "web"'),
    ('entry_point = "m:Web"', 'entry_point = "m:Web"\nexecution_context = "elevated"'),
    ("THREADS = 4", "THREADS = 5"),
    ("port = 443", "port = 444"),
    ("size_in_mb = 200", "size_in_mb = 201"),
    ('command = "install.sh"', 'command = "install.sh -f"'),
    ('command = "install.sh"', 'command = "install.sh"\ntype = "background"'),
    (
        f'thumbprint = "{DEFINITION.partition("thumbprint = ")[2][1:41]}"',
        f'thumbprint = "{"0" * 40}"\nstore_name = "Root"',
    ),
    ("[[roles.Web.startup]]", '[roles.Web.internal_endpoints.Talk]\nprotocol = "tcp"\n[[roles.Web.startup]]'),
    ("[[roles.Web.startup]]", '[roles.Web.contents]\ntools = "dist"\n[[roles.Web.startup]]'),
    (
        "[[roles.Web.startup]]",
        f'[roles.Web.certificates.New]\nthumbprint = "{OTHER_THUMBPRINT}"\n[[roles.Web.startup]]',
    ),
]


@pytest.mark.parametrize(("old", "new"), FREE)
def test_what_a_running_role_takes(running: ServiceModel, changed: Change, old: str, new: str) -> None:
    update = changed((old, new))
    assert update != running
    assert refusals(running, update) == []
    assert not needs_restart(running, update, "Web")
    assert differences(running, update)


@pytest.mark.parametrize(("old", "new"), BINDING)
def test_what_starts_a_role_again(running: ServiceModel, changed: Change, old: str, new: str) -> None:
    update = changed((old, new))
    assert refusals(running, update) == []
    assert needs_restart(running, update, "Web")
    assert not needs_restart(running, update, "Back")
    assert list(differences(running, update).definition) == ["Web"]


def test_other_code_starts_every_role_again(tmp_path: Path, running: ServiceModel) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2/service.toml").write_text(DEFINITION)
    update = read_update(tmp_path / "v2/service.toml", running, {})
    assert needs_restart(running, update, "Web")
    assert needs_restart(running, update, "Back")
    assert differences(running, update).service == ("directory",)


def test_every_fact_of_a_service_is_told_when_it_changes(running: ServiceModel) -> None:
    update = replace(
        running,
        recycle_backoff=RecycleBackoff.NONE,
        topology_change_discovery=TopologyChangeDiscovery.BLAST,
        changing_seconds=1.0,
        start_seconds=2.0,
        probes={},
        os_family="7",
        os_version="8",
    )
    told = set(differences(running, update).service)
    assert told == {
        *("recycle_backoff", "topology_change_discovery", "changing_seconds", "start_seconds"),
        *("probes", "os_family", "os_version"),
    }


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "s"', 'name = "t"', ['the service is "s", and can\'t become "t": start that one by itself']),
        (
            'name = "s"',
            'name = "s"\nstorage = "UseDevelopmentStorage=true"',
            ["where jobs and messages are can't change while the service runs: start it again"],
        ),
        ("= 3", "= 4", ["the number of upgrade domains is 3, and can't become 4 while the service runs"]),
        ("[roles.Back]", "[roles.Behind]", ['the role "Back" can\'t be renamed to "Behind" while the service runs']),
        ('[roles.Back]\nentry_point = "m:Back"', "", ['the role "Back" can\'t be taken away while the service runs']),
        (
            "[roles.Back]",
            '[roles.More]\nentry_point = "m:M"\n[roles.Back]',
            ['the role "More" can\'t be added while the service runs'],
        ),
        (
            "size_in_mb = 200",
            "size_in_mb = 199",
            ['the local resource "Cache" of the role "Web" can\'t shrink from 200 to 199 MB'],
        ),
        (
            "[roles.Web.local_resources.Cache]",
            "[roles.Web.local_resources.DiagnosticStore]\nsize_in_mb = 4095\n[roles.Web.local_resources.Cache]",
            ['the local resource "DiagnosticStore" of the role "Web" can\'t shrink from 4096 to 4095 MB'],
        ),
    ],
)
def test_what_is_refused_in_place(running: ServiceModel, changed: Change, old: str, new: str, told: list[str]) -> None:
    assert refusals(running, changed((old, new))) == told


def test_all_refusals_are_told_at_once(running: ServiceModel, changed: Change) -> None:
    update = changed(('name = "s"', 'name = "t"'), ("= 3", "= 4"), ("size_in_mb = 200", "size_in_mb = 1"))
    assert len(refusals(running, update)) == 3


def test_what_changes_is_told_by_names(running: ServiceModel, changed: Change) -> None:
    update = changed(
        ('Colour = "red", Size = 1', 'Colour = "green", Length = 1'),
        ("instances = 2", "instances = 5"),
        ("0123456789ABCDEF0123456789ABCDEF01234567", OTHER_THUMBPRINT),
        ("port = 443", "port = 444"),
        ('name = "s"', 'name = "s"\non_stop_seconds = 3'),
    )
    found = differences(running, update)
    assert found.to_json() == {
        "settings": {"Web": ["Colour", "Size", "Length"]},
        "masked": {},
        "instances": {"Web": [2, 5]},
        "certificates": {"Web": ["Tls"]},
        "definition": {"Web": ["endpoints"]},
        "service": ["on_stop_seconds"],
    }
    assert not differences(running, running)


def test_a_masked_setting_is_told_and_changes_nothing(tmp_path: Path, changed: Change) -> None:
    environ = {"ROLEHOST_SETTING_Colour": "blue"}
    running = load(tmp_path / "service.toml", environ)
    update = changed(('Colour = "red"', 'Colour = "green"'), **environ)
    found = differences(running, update)
    assert found.masked == {"Web": ("Colour",)}
    assert not found
    assert not needs_restart(running, update, "Web")
    assert update.roles["Web"].settings["Colour"] == "blue"


def test_a_configuration_goes_with_the_running_definition(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    running = load(service.directory / CSDEF, {})
    elsewhere = tmp_path / "new.cscfg"
    text = (service.directory / CSCFG).read_text()
    elsewhere.write_text(text.replace('value="300"', 'value="600"').replace('count="4"', 'count="6"'))
    update = read_update(elsewhere, running, {})
    found = differences(running, update)
    assert found.settings == {"ThumbnailBackend": ("App.TimeoutSeconds",)}
    assert found.instances == {"ThumbnailBackend": (4, 6)}
    assert (update.source, update.configuration, update.directory) == (running.source, elsewhere, service.directory)
    assert not needs_restart(running, update, "ThumbnailBackend")


def test_a_configuration_leaves_the_code_where_it_is(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    running = load(service.directory / CSDEF, {}, directory=tmp_path)
    update = read_update(service.directory / CSCFG, running, {})
    assert update.directory == tmp_path
    assert not differences(running, update)


def test_a_definition_keeps_the_configuration_that_it_runs_with(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    other = service.directory / "ServiceConfiguration.Local.cscfg"
    other.write_text((service.directory / CSCFG).read_text().replace('count="4"', 'count="1"'))
    running = load(service.directory / CSDEF, {}, configuration=other)
    service.change(CSDEF, 'sizeInMB="512"', 'sizeInMB="513"')
    update = read_update(service.directory / CSDEF, running, {})
    assert update.configuration == other
    assert update.roles["ThumbnailBackend"].instances == 1
    assert differences(running, update).definition == {"ThumbnailBackend": ("local_resources",)}


def test_every_problem_of_an_update_is_told(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    running = load(service.directory / CSDEF, {})
    service.change(CSCFG, 'count="4"', 'count="0"')
    service.change(CSCFG, 'serviceName="ThumbnailCloudService"', 'serviceName="Other"')
    with pytest.raises(ServiceModelError) as caught:
        read_update(service.directory / CSCFG, running, {})
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["M02", "M24"]


def test_a_configuration_needs_a_definition_in_xml(tmp_path: Path, running: ServiceModel) -> None:
    with pytest.raises(ServiceModelError, match=r"goes with a definition \(.csdef\), but the service runs with"):
        read_update(tmp_path / "new.cscfg", running, {})
    with pytest.raises(ServiceModelError, match="the built-in definition"):
        read_update(tmp_path / "new.cscfg", load(None, {}, built_in=True), {})


def test_a_service_scales_within_its_ports(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    role = load(service.directory / CSDEF, {}).roles["ThumbnailBackend"]
    assert scaling_refusals(role, 10) == []
    assert scaling_refusals(role, 11) == [("M30", 'the endpoint "Debug": 10 public ports are too few for 11 instances')]
    assert scaling_refusals(role, 0) == [("M24", "a number of instances is from 1 to 1000, not 0")]


def test_the_environment_scales_within_the_ports_too(tmp_path: Path) -> None:
    service = Copy(tmp_path)
    assert service.examine(ROLEHOST_INSTANCES_THUMBNAILBACKEND="10").errors == ()
    variable = "ROLEHOST_INSTANCES_THUMBNAILBACKEND"
    assert service.told(service.examine(**{variable: "11"}).errors) == [
        f'{variable}: M30: the endpoint "Debug": 10 public ports are too few for 11 instances'
    ]
