"""What an instance is told of its service, where its local resources are, and which variables its processes get."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree as ET

import pytest

from rolehost.errors import RoleEnvironmentError
from rolehost.host.assignment import Assignment
from rolehost.host.channel.wire import environment_document
from rolehost.host.instance import approot
from rolehost.host.instance.variables import resolve
from rolehost.host.orders import Planner
from rolehost.host.paths import DataDirectory
from rolehost.processes import MARKER
from rolehost.service_model import (
    InputEndpoint,
    InstanceInputEndpoint,
    InternalEndpoint,
    LocalStorage,
    PortRange,
    RoleModel,
    StartupTask,
)
from support.instances import DEPLOYMENT, a_topology, make_plan, open_place, prepared

INTERNAL = {"Control": InternalEndpoint(name="Control")}
CURRENT = "/RoleEnvironment/CurrentInstance"


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as place:
        yield place


def seen(plan_roles: object) -> dict[str, list[str]]:
    assert isinstance(plan_roles, MappingProxyType)
    return {name: [each.id for each in role.instances] for name, role in plan_roles.items()}


def test_only_roles_with_an_internal_endpoint_show_all_their_instances(place: Path) -> None:
    front, back = RoleModel(name="F", entry_point="m:F"), RoleModel(name="B", entry_point="m:B")
    topology = a_topology(F=[{"Http": 80}] * 3, B=[{"Control": 1}] * 3)
    plan = make_plan(place, front, back, number=1, topology=topology)
    assert seen(plan.snapshot().roles) == {"F": ["F_IN_1"], "B": []}
    talking = replace(back, internal_endpoints=INTERNAL)
    assert seen(make_plan(place, front, talking, number=1, topology=topology).snapshot().roles) == {
        "F": ["F_IN_1"],
        "B": ["B_IN_0", "B_IN_1", "B_IN_2"],
    }
    assert seen(make_plan(place, talking, front, number=2, topology=topology).snapshot().roles) == {
        "F": [],
        "B": ["B_IN_0", "B_IN_1", "B_IN_2"],
    }


def test_the_current_instance_is_the_one_in_its_role_and_others_keep_theirs(place: Path) -> None:
    roles = (RoleModel(name="A", entry_point="m:A"), RoleModel(name="B", entry_point="m:B"))
    topology = a_topology(A=[{}, {}], B=[{}])
    first, second = (make_plan(place, *roles, number=number, topology=topology).snapshot() for number in (0, 1))
    for snapshot, name in ((first, "A_IN_0"), (second, "A_IN_1")):
        current = snapshot.current_role_instance
        assert current.id == name
        assert current.role is snapshot.roles["A"]
        assert current.role.instances == (current,)
    assert topology["A"].instances[0].role is topology["A"]
    assert [each.id for each in topology["A"].instances] == ["A_IN_0", "A_IN_1"]


def test_an_instance_that_the_topology_lacks_is_there_all_the_same(place: Path) -> None:
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A"), number=7, model={"upgrade_domain_count": 3})
    current = plan.snapshot().current_role_instance
    assert (current.id, current.update_domain, current.fault_domain) == ("A_IN_7", 1, 1)


def test_the_public_port_is_told_where_the_service_is_not_emulated(place: Path) -> None:
    role = RoleModel(
        name="A",
        entry_point="m:A",
        endpoints={"Http": InputEndpoint(name="Http", protocol="http", port=80, local_port=8080)},
        internal_endpoints=INTERNAL,
        instance_input_endpoints={
            "Debug": InstanceInputEndpoint(
                name="Debug", protocol="tcp", local_port=9229, public_ports=PortRange(30000, 30009)
            )
        },
    )
    ports = {"Http": 8080, "Control": 5000, "Debug": 9229}
    plan = make_plan(place, role, number=2, topology=a_topology(A=[ports] * 3), emulated=False)
    endpoints = plan.snapshot().current_role_instance.instance_endpoints
    assert {name: each.ip_endpoint for name, each in endpoints.items()} == {
        name: ("127.0.1.3", port) for name, port in ports.items()
    }
    assert {name: each.public_ip_endpoint for name, each in endpoints.items()} == {
        "Http": ("127.0.1.3", 80),
        "Control": None,
        "Debug": ("127.0.1.3", 30002),
    }
    other = plan.snapshot().roles["A"].instances[0]
    assert other.instance_endpoints["Debug"].public_ip_endpoint == ("127.0.1.1", 30000)
    emulated = replace(plan, emulated=True).snapshot().current_role_instance
    assert [each.public_ip_endpoint for each in emulated.instance_endpoints.values()] == [None, None, None]


def test_two_instances_bind_the_same_port_at_their_own_addresses(place: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    role = RoleModel(
        name="A", entry_point="m:A", endpoints={"Http": InputEndpoint(name="Http", protocol="http", port=80)}
    )
    topology = a_topology(A=[{"Http": port}] * 2)
    with socket.socket() as first, socket.socket() as second:
        for number, listening in enumerate((first, second)):
            current = make_plan(place, role, number=number, topology=topology).snapshot().current_role_instance
            listening.bind(current.instance_endpoints["Http"].ip_endpoint)
        assert {first.getsockname(), second.getsockname()} == {("127.0.1.1", port), ("127.0.1.2", port)}


def test_a_local_resource_s_path_ends_with_a_separator_and_is_no_other_instance_s(place: Path) -> None:
    role = RoleModel(name="A", entry_point="m:A", local_resources={"Work": LocalStorage(name="Work", size_in_mb=7)})
    paths = []
    for number in (0, 1):
        plan = make_plan(place, role, number=number)
        prepared(plan)
        work = plan.snapshot().local_resources["Work"]
        assert (work.name, work.maximum_size_in_megabytes) == ("Work", 7)
        assert work.root_path.endswith(os.sep)
        assert Path(work.root_path).is_dir()
        paths += [Path(work.root_path), plan.data.temp(plan.instance_id), approot.role_root(plan)]
    assert not [one for one in paths for other in paths if one is not other and (one == other or one in other.parents)]


def test_every_role_has_a_diagnostic_store_that_survives_a_recycle(place: Path) -> None:
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A", local_resources={}))
    prepared(plan)
    store = plan.snapshot().local_resources["DiagnosticStore"]
    assert store.maximum_size_in_megabytes == 4096
    (Path(store.root_path) / "kept").touch()
    prepared(plan)
    assert (Path(store.root_path) / "kept").exists()


def test_resources_are_cleaned_or_kept_and_the_temporary_directory_is_wiped(place: Path) -> None:
    storages = {
        "Cleaned": LocalStorage(name="Cleaned"),
        "Kept": LocalStorage(name="Kept", clean_on_role_recycle=False),
    }
    plan = make_plan(place, RoleModel(name="A", entry_point="m:A", local_resources=storages))
    prepared(plan)
    temp = plan.data.temp(plan.instance_id)
    folders = [temp, *(plan.data.resource(plan.instance_id, name) for name in storages)]
    for folder in folders:
        (folder / "deep" / "closed").mkdir(parents=True)
        (folder / "deep" / "file").touch()
        (folder / "deep" / "closed").chmod(0)
        (folder / "deep").chmod(0o500)
    prepared(plan)
    assert [sorted(each.name for each in folder.iterdir()) for folder in folders] == [[], [], ["deep"]]
    (folders[2] / "deep").chmod(0o700)
    (folders[2] / "deep" / "closed").chmod(0o700)


def test_a_cleaned_resource_stays_the_same_directory_so_that_a_volume_can_be_mounted_there(place: Path) -> None:
    data = DataDirectory.at(place / "data")
    data.prepare("A_IN_0", [LocalStorage(name="Work")])
    before = data.resource("A_IN_0", "Work").stat().st_ino
    (data.resource("A_IN_0", "Work") / "file").touch()
    data.prepare("A_IN_0", [LocalStorage(name="Work")])
    assert data.resource("A_IN_0", "Work").stat().st_ino == before
    assert list(data.resource("A_IN_0", "Work").iterdir()) == []


def test_a_resource_called_like_the_temporary_directory_is_not_it(place: Path) -> None:
    data = DataDirectory.at(place / "data")
    names = ("RoleTemp", "RoleTemp.", "Other")
    data.prepare("A_IN_0", [LocalStorage(name=name, clean_on_role_recycle=False) for name in names])
    folders = {data.temp("A_IN_0"), *(data.resource("A_IN_0", name) for name in names)}
    assert len(folders) == 4
    assert all(each.is_dir() for each in folders)


def test_the_role_s_variables(place: Path) -> None:
    role = RoleModel(
        name="A",
        entry_point="m:A",
        settings={"Queue": "jobs"},
        environment={"PLAIN": "1", "RoleName": "forged"},
        instance_values={"QUEUE": f"{CURRENT}/ConfigurationSettings/ConfigurationSetting[@name='Queue']/@value"},
        startup_tasks=(StartupTask(command_line="t", environment={"TASK": "only"}),),
    )
    environ = {"PATH": "/bin", MARKER: "old", "WaRuntimeEndpoint": "old", "ROLEHOST_ROLE_VARIABLES": '["PATH"]'}
    plan = make_plan(place, role, number=3, environ=environ)
    prepared(plan)
    variables = plan.role_variables("/run/endpoint", "127.0.0.1:9")
    facts = {
        "RoleName": "A",
        "RoleInstanceID": "A_IN_3",
        "RdRoleId": "A_IN_3",
        "RoleDeploymentID": DEPLOYMENT,
        "RoleRoot": str(approot.role_root(plan)),
        "WaRuntimeEndpoint": "/run/endpoint",
        "ROLEHOST_PROBE": "127.0.0.1:9",
        "PATH": "/bin",
        "PLAIN": "1",
        "QUEUE": "jobs",
    }
    assert {name: variables[name] for name in facts} == facts
    assert {variables[name] for name in ("TMPDIR", "TEMP", "TMP")} == {str(plan.data.temp("A_IN_3"))}
    assert json.loads(variables["ROLEHOST_ROLE_VARIABLES"]) == ["PLAIN", "RoleName", "QUEUE"]
    assert not {"TASK", MARKER} & variables.keys()


def test_a_task_s_variables_are_its_own_and_the_runtime_s_are_not_among_them(place: Path) -> None:
    one = StartupTask(
        command_line="t",
        environment={"MINE": "1"},
        instance_values={"WORK": f"{CURRENT}/LocalResources/LocalResource[@name='Work']/@path"},
    )
    other = StartupTask(command_line="u", environment={"OTHER": "2"})
    role = RoleModel(
        name="A",
        entry_point="m:A",
        local_resources={"Work": LocalStorage(name="Work")},
        environment={"RUNTIME": "3"},
        startup_tasks=(one, other),
    )
    plan = make_plan(place, role, environ={"PATH": "/bin"})
    variables = plan.task_variables(one)
    assert variables["MINE"] == "1"
    assert variables["WORK"] == f"{plan.data.resource('A_IN_0', 'Work')}/"
    assert variables["RoleInstanceID"] == "A_IN_0"
    assert variables["TEMP"] == str(plan.data.temp("A_IN_0"))
    assert not {"RUNTIME", "OTHER", "WaRuntimeEndpoint", "ROLEHOST_ROLE_VARIABLES"} & variables.keys()


def test_a_role_may_put_its_temporary_directory_into_a_resource(place: Path) -> None:
    role = RoleModel(
        name="A",
        entry_point="m:A",
        instance_values={"TEMP": f"{CURRENT}/LocalResources/LocalResource[@name='DiagnosticStore']/@path"},
    )
    plan = make_plan(place, role)
    assert plan.role_variables("", "")["TEMP"] == plan.snapshot().local_resources["DiagnosticStore"].root_path
    assert plan.role_variables("", "")["TMP"] == str(plan.data.temp("A_IN_0"))


def test_the_twelve_xpaths_find_what_the_instance_has(place: Path) -> None:
    role = RoleModel(
        name="A",
        entry_point="m:A",
        settings={"Queue": "jobs & more"},
        local_resources={"Work": LocalStorage(name="Work", size_in_mb=7)},
    )
    plan = make_plan(place, role, number=3, topology=a_topology(A=[{"Http": 80 + number} for number in range(4)]))
    snapshot = plan.snapshot()
    setting = f"{CURRENT}/ConfigurationSettings/ConfigurationSetting[@name='Queue']/@value"
    resource, endpoint = (f"{CURRENT}/{kind}s/{kind}[@name='%s']/@" for kind in ("LocalResource", "Endpoint"))
    expected = {
        "/RoleEnvironment/Deployment/@id": DEPLOYMENT,
        "/RoleEnvironment/Deployment/@emulated": "true",
        f"{CURRENT}/@id": "A_IN_3",
        f"{CURRENT}/@roleName": "A",
        f"{CURRENT}/@updateDomain": "3",
        f"{CURRENT}/@faultDomain": "1",
        setting: "jobs & more",
        f"{resource % 'Work'}path": f"{plan.data.resource('A_IN_3', 'Work')}/",
        f"{resource % 'Work'}sizeInMB": "7",
        f"{endpoint % 'Http'}protocol": "tcp",
        f"{endpoint % 'Http'}address": "127.0.1.4",
        f"{endpoint % 'Http'}port": "83",
    }
    assert len(expected) == 12
    assert {xpath: resolve(xpath, snapshot) for xpath in expected} == expected
    assert resolve("/RoleEnvironment/Deployment/@emulated", replace(plan, emulated=False).snapshot()) == "false"
    with pytest.raises(RoleEnvironmentError, match="names nothing"):
        resolve(f"{endpoint % 'Other'}port", snapshot)
    with pytest.raises(RoleEnvironmentError, match="none of the XPaths"):
        resolve("/RoleEnvironment/Other/@id", snapshot)


def test_the_xpaths_find_the_same_in_the_document_that_the_role_is_given(place: Path) -> None:
    """Read as a program would that knows no other way."""
    role = RoleModel(name="A", entry_point="m:A", settings={"Q": 'a <b> & "c"'}, internal_endpoints={**INTERNAL})
    plan = make_plan(place, role, topology=a_topology(A=[{"Control": 5000}]))
    snapshot = plan.snapshot()
    root = ET.fromstring(environment_document(snapshot))  # noqa: S314 - our own document
    endpoint = f"{CURRENT}/Endpoints/Endpoint[@name='Control']"
    resource = f"{CURRENT}/LocalResources/LocalResource[@name='DiagnosticStore']"
    setting = f"{CURRENT}/ConfigurationSettings/ConfigurationSetting[@name='Q']"
    asked = {
        "/RoleEnvironment/Deployment": ("id", "emulated"),
        CURRENT: ("id", "roleName", "updateDomain", "faultDomain"),
        setting: ("value",),
        resource: ("path", "sizeInMB"),
        endpoint: ("protocol", "address", "port"),
    }
    for element, attributes in asked.items():
        found = root.find(element.removeprefix("/RoleEnvironment/"))
        assert found is not None
        for attribute in attributes:
            assert found.get(attribute) == resolve(f"{element}/@{attribute}", snapshot)


def test_the_public_addresses_of_a_generation_replace_those_that_the_host_started_with(place: Path) -> None:
    definition = place / "service.toml"
    definition.write_text('[service]\nname = "s"\n[roles.A]\nentry_point = "m:A"\n')
    environ = {"ROLEHOST_PUBLIC": '{"Http": "127.0.0.1:80"}'}
    planner = Planner(role="A", number=0, data=DataDirectory.at(place / "data"), environ=environ)
    told = Assignment(generation=1, model=definition, directory=place, topology={})
    for public in (None, {"Http": "127.0.0.1:80", "Web": "127.0.0.1:81"}, {}):
        assignment = Assignment.from_json(json.loads(json.dumps(replace(told, public=public).to_json())))
        variables = planner.read(assignment).role_variables("/run/x", "127.0.0.1:1")
        assert json.loads(variables["ROLEHOST_PUBLIC"]) == ({"Http": "127.0.0.1:80"} if public is None else public)
