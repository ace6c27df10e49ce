from __future__ import annotations

import threading
from pathlib import Path
from types import MappingProxyType

import pytest

import rolehost
from rolehost.environment import (
    Event,
    LocalResource,
    Role,
    RoleEnvironment,
    RoleInstance,
    RoleInstanceEndpoint,
    Snapshot,
    parse_snapshot,
)
from rolehost.errors import RoleEnvironmentError


def snapshot(**settings: str) -> Snapshot:
    current = RoleInstance("A_IN_1", 1, 1, {"Http": RoleInstanceEndpoint("Http", ("127.0.0.1", 80), "http")})
    return Snapshot(
        deployment_id="d",
        is_emulated=True,
        current_role_instance=current,
        settings=MappingProxyType(settings),
        local_resources=MappingProxyType({"Scratch": LocalResource("Scratch", "/s/", 7)}),
        roles=MappingProxyType({"A": Role("A", (current,)), "B": Role("B")}),
    )


def test_outside_a_host_everything_but_is_available_raises() -> None:
    environment = rolehost.role_environment
    assert environment.is_available is False
    for member in ("is_emulated", "deployment_id", "current_role_instance", "roles", "stopping"):
        with pytest.raises(RoleEnvironmentError, match="no role environment here"):
            getattr(environment, member)
    for call in (environment.get_configuration_setting_value, environment.get_local_resource):
        with pytest.raises(RoleEnvironmentError, match="no role environment here"):
            call("x")
    with pytest.raises(RoleEnvironmentError, match="no role environment here"):
        environment.request_recycle()


def test_settings_and_resources() -> None:
    environment = RoleEnvironment(snapshot(**{"Worker.Slots": "2"}))
    assert environment.is_available
    assert environment.get_configuration_setting_value("Worker.Slots") == "2"
    assert environment.get_configuration_setting_value("worker.slots") == "2"
    assert environment.get_local_resource("Scratch").maximum_size_in_megabytes == 7
    with pytest.raises(RoleEnvironmentError, match='setting "Other" does not exist'):
        environment.get_configuration_setting_value("Other")
    with pytest.raises(RoleEnvironmentError, match='resource "Other" does not exist'):
        environment.get_local_resource("Other")


def test_roles_and_instances_name_each_other_and_are_read_only() -> None:
    environment = RoleEnvironment(snapshot())
    instance = environment.current_role_instance
    assert instance.role is environment.roles["A"]
    assert environment.roles["A"].instances == (instance,)
    assert instance.instance_endpoints["Http"].ip_endpoint == ("127.0.0.1", 80)
    assert environment.roles["B"].instances == ()
    with pytest.raises(TypeError):
        environment.roles["C"] = Role("C")  # type: ignore[index]


def test_recycle_is_passed_on() -> None:
    asked: list[bool] = []
    RoleEnvironment.for_testing(on_recycle=lambda: asked.append(True)).request_recycle()
    assert asked == [True]
    with pytest.raises(RoleEnvironmentError, match="no host is connected"):
        RoleEnvironment.for_testing().request_recycle()


def test_an_environment_for_tests_in_a_line(tmp_path: Path) -> None:
    environment = RoleEnvironment.for_testing(settings={"A": "1"}, local_resources={"Scratch": tmp_path / "scratch"})
    assert environment.get_configuration_setting_value("A") == "1"
    assert environment.get_local_resource("Scratch").root_path == f"{tmp_path}/scratch/"
    assert (tmp_path / "scratch").is_dir()
    assert environment.current_role_instance.id == "Role_IN_0"
    assert environment.is_emulated


def test_handlers_come_and_go_and_one_that_fails_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []

    def failing(_: object) -> None:
        raise ValueError("a bad handler")

    def first(_: object) -> None:
        heard.append("first")

    def second(_: object) -> None:
        heard.append("second")

    environment = RoleEnvironment.for_testing()
    environment.stopping += first
    environment.stopping += failing
    environment.stopping += second
    event: Event[object] = environment.stopping  # type: ignore[assignment]
    event.fire(None)
    assert heard == ["first", "second"]
    assert "a bad handler" in capsys.readouterr().err
    environment.stopping -= first
    environment.stopping -= first
    event.fire(None)
    assert heard == ["first", "second", "second"]


def test_an_event_takes_plain_functions_only_and_is_not_replaced() -> None:
    async def handler(_: object) -> None:
        pass

    environment = RoleEnvironment.for_testing()
    with pytest.raises(TypeError, match="a plain function"):
        environment.stopping += handler
    with pytest.raises(AttributeError, match="can't be replaced"):
        environment.stopping = Event("other")


def test_readers_never_see_half_of_a_change() -> None:
    environment = RoleEnvironment(snapshot(a="0"))
    mixed: list[Snapshot] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen = environment._available()  # what each member reads once
            if seen.settings["a"] != seen.settings.get("b", seen.settings["a"]):
                mixed.append(seen)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for value in range(2000):
        environment.attach(snapshot(a=str(value), b=str(value)))
    done.set()
    for reader in readers:
        reader.join()
    assert mixed == []
    assert environment.get_configuration_setting_value("b") == "1999"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<RoleEnvironment/>",
        b'<RoleEnvironment><Deployment id="d"/><CurrentInstance/></RoleEnvironment>',
        b'<!DOCTYPE x [<!ENTITY e "e">]><RoleEnvironment>&e;</RoleEnvironment>',
    ],
)
def test_a_document_that_cannot_be_read(document: bytes) -> None:
    with pytest.raises(RoleEnvironmentError, match="can't be read"):
        parse_snapshot(document)


def test_a_document_in_the_published_form_is_read() -> None:
    read = parse_snapshot(b"""<?xml version="1.0" encoding="utf-8"?>
        <RoleEnvironment><Deployment id="dep1" emulated="false"/>
        <CurrentInstance id="B_IN_0" roleName="B" faultDomain="1" updateDomain="2">
        <ConfigurationSettings><ConfigurationSetting name="Q" value="q"/></ConfigurationSettings>
        <LocalResources><LocalResource name="Work" path="/r/Work/" sizeInMB="100"/></LocalResources>
        <Endpoints><Endpoint name="Control" address="10.0.0.4" port="20000" protocol="tcp"/></Endpoints>
        </CurrentInstance>
        <Roles><Role name="B"><Instances>
        <Instance id="B_IN_0" faultDomain="1" updateDomain="2"><Endpoints/></Instance>
        <Instance id="B_IN_1" faultDomain="0" updateDomain="1"><Endpoints/></Instance>
        </Instances></Role><Role name="C"/></Roles></RoleEnvironment>""")
    assert (read.deployment_id, read.is_emulated, read.settings["Q"]) == ("dep1", False, "q")
    assert read.local_resources["Work"] == LocalResource("Work", "/r/Work/", 100)
    assert [instance.id for instance in read.roles["B"].instances] == ["B_IN_0", "B_IN_1"]
    assert read.current_role_instance is read.roles["B"].instances[0]
    assert (read.current_role_instance.fault_domain, read.current_role_instance.update_domain) == (1, 2)
