from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
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
    RoleInstanceStatus,
    Snapshot,
    parse_snapshot,
)
from rolehost.errors import RoleEnvironmentError
from rolehost.service_runtime.host_side import TestingHost


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
    for member in ("is_emulated", "deployment_id", "current_role_instance", "roles", "certificates", "snapshot"):
        with pytest.raises(RoleEnvironmentError, match="no role environment here"):
            getattr(environment, member)
    calls = (
        partial(environment.get_configuration_setting_value, "x"),
        partial(environment.get_local_resource, "x"),
        partial(environment.set_status, RoleInstanceStatus.BUSY, timedelta(seconds=1)),
        environment.clear_status,
        environment.request_recycle,
    )
    for call in calls:
        with pytest.raises(RoleEnvironmentError, match="no role environment here"):
            call()


def test_outside_a_host_no_handler_is_taken() -> None:
    environment = rolehost.role_environment
    with pytest.raises(RoleEnvironmentError, match="no role environment here"):
        environment.changing += print
    with pytest.raises(RoleEnvironmentError, match="no role environment here"):
        environment.stopping -= print
    for event in ("changing", "changed", "simultaneous_changing", "simultaneous_changed", "status_check", "stopping"):
        with pytest.raises(RoleEnvironmentError, match="no role environment here"):
            getattr(environment, event)


def test_a_bare_interpreter_is_no_host() -> None:
    """Everything that a program of the user's own asks there, outside of any process of ours."""
    program = """
import rolehost
print(rolehost.role_environment.is_available)
try:
    rolehost.role_environment.changed += print
except rolehost.RoleEnvironmentError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.startswith("False\nthere is no role environment here")


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


def test_an_instance_has_no_virtual_ip_groups_and_its_endpoints_name_it() -> None:
    instance = RoleEnvironment(snapshot()).current_role_instance
    assert dict(instance.virtual_ip_groups) == {}
    endpoint = instance.instance_endpoints["Http"]
    assert endpoint.role_instance is instance
    assert (endpoint.name, endpoint.protocol, endpoint.public_ip_endpoint) == ("Http", "http", None)


def test_a_status_that_is_set_holds_for_the_time_that_is_given() -> None:
    told: list[tuple[RoleInstanceStatus, float]] = []

    class Host(TestingHost):
        def set_status(self, status: RoleInstanceStatus, seconds: float) -> None:
            told.append((status, seconds))

    environment = RoleEnvironment(snapshot(), Host(None))
    environment.set_status(RoleInstanceStatus.BUSY, timedelta(minutes=2))
    environment.set_status(RoleInstanceStatus.READY, datetime.now(UTC) + timedelta(seconds=60))
    assert [status for status, _ in told] == [RoleInstanceStatus.BUSY, RoleInstanceStatus.READY]
    assert told[0][1] == 120
    assert 50 < told[1][1] <= 60
    with pytest.raises(ValueError, match="time zone"):
        environment.set_status(RoleInstanceStatus.BUSY, datetime.now())  # noqa: DTZ005 - the mistake itself


def test_a_status_in_a_test_is_what_the_next_check_says() -> None:
    environment = RoleEnvironment.for_testing()
    environment.set_status(RoleInstanceStatus.BUSY, timedelta(seconds=5))
    assert environment.testing_status_check() is RoleInstanceStatus.BUSY
    environment.clear_status()
    assert environment.testing_status_check() is RoleInstanceStatus.READY


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

    def leaving(_: object) -> None:
        sys.exit("not like this")

    def first(_: object) -> None:
        heard.append("first")

    def second(_: object) -> None:
        heard.append("second")

    environment = RoleEnvironment.for_testing()
    environment.stopping += first
    environment.stopping += failing
    environment.stopping += leaving
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
    environment = RoleEnvironment(snapshot(a="0", b="0"))
    mixed: list[Snapshot] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen = environment.snapshot
            if seen.settings["a"] != seen.settings["b"]:
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
    assert read.current_role_instance.instance_endpoints["Control"].ip_endpoint == ("10.0.0.4", 20000)
    assert read.current_role_instance.role is read.roles["B"]
    assert (read.current_role_instance.fault_domain, read.current_role_instance.update_domain) == (1, 2)


def test_a_role_that_lists_no_instances_lists_the_current_one_all_the_same() -> None:
    read = parse_snapshot(b"""<RoleEnvironment><Deployment id="d" emulated="true"/>
        <CurrentInstance id="A_IN_3" roleName="A" faultDomain="0" updateDomain="3"/>
        <Roles><Role name="A"/><Role name="B"><Instances/></Role></Roles></RoleEnvironment>""")
    assert [instance.id for instance in read.roles["A"].instances] == ["A_IN_3"]
    assert read.roles["B"].instances == ()


def test_handlers_may_come_and_go_while_others_are_called() -> None:
    environment = RoleEnvironment.for_testing()
    heard: list[int] = []

    def hear(_: object) -> None:
        heard.append(1)

    def work() -> None:
        for _ in range(300):
            environment.changing += hear
            environment.testing_change(settings={"a": "1"})
            environment.changing -= hear

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not environment.changing  # none was lost, none is left


def test_what_can_not_be_a_handler_or_a_directory_is_refused_at_once() -> None:
    environment = RoleEnvironment.for_testing()
    with pytest.raises(TypeError, match="a handler of changing"):
        environment.changing += 5  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="local_resources gives each resource a directory, and Scratch has 10"):
        RoleEnvironment.for_testing(local_resources={"Scratch": 10})  # type: ignore[dict-item]
