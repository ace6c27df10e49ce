from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from rolehost.environment import Certificate, Role, RoleInstance, RoleInstanceEndpoint, parse_snapshot
from rolehost.errors import WireError
from rolehost.host.channel.client import RuntimeClient
from rolehost.host.channel.server import RuntimeChannel
from rolehost.host.channel.wire import (
    CurrentState,
    GoalState,
    current_state,
    environment_document,
    goal_frame,
    read_current_state,
    read_goal,
)
from rolehost.host.instance.plan import InstancePlan
from rolehost.host.paths import DataDirectory
from rolehost.service_model import InputEndpoint, LocalStorage, RoleModel, ServiceModel

PUBLISHED = {
    *("RoleEnvironment", "Deployment", "CurrentInstance", "ConfigurationSettings", "ConfigurationSetting"),
    *("LocalResources", "LocalResource", "Endpoints", "Endpoint", "Roles", "Role", "Instances", "Instance"),
}
AWKWARD = "a <b> & \"c\" 'd'\r\n\tü €"


@pytest.fixture
def plan(tmp_path: Path) -> InstancePlan:
    role = RoleModel(
        name="B",
        entry_point="m:C",
        settings={"Q": AWKWARD},
        local_resources={"Work": LocalStorage(name="Work", size_in_mb=7)},
        endpoints={"Http": InputEndpoint(name="Http", protocol="http", port=1)},
    )
    model = ServiceModel(name="s", roles={"B": role, "C": RoleModel(name="C", entry_point="m:D")})
    http = RoleInstanceEndpoint("Http", ("127.0.0.1", 20000), "http")
    current = RoleInstance("B_IN_3", 1, 3, MappingProxyType({"Http": http}))
    return InstancePlan(
        model=model,
        role=role,
        number=3,
        data=DataDirectory(tmp_path),
        deployment_id="0123456789abcdef",
        topology={"B": Role("B", (current,))},
    )


@pytest.fixture
async def channel(plan: InstancePlan) -> AsyncIterator[RuntimeChannel]:
    async with RuntimeChannel(plan.directory_name, lambda _: None, 30) as channel:
        channel.expect_started(plan.snapshot())
        yield channel


def make(directory: Path) -> None:
    directory.mkdir(exist_ok=True)


def modes(*paths: Path) -> set[int]:
    """The permissions of those that exist."""
    return {path.stat().st_mode & 0o777 for path in paths if path.exists()}


def documents(channel: RuntimeChannel) -> list[str]:
    return sorted(path.name for path in Path(channel.endpoint).parent.glob("*.xml"))


def content(path: Path) -> bytes:
    return path.read_bytes()


async def exchange(path: str, sent: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(sent)
    if sent:
        writer.write_eof()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_foreign_client_finds_its_way_from_the_version_to_the_environment(
    channel: RuntimeChannel, plan: InstancePlan
) -> None:
    version = (await exchange(channel.endpoint)).decode()
    found = re.search(r'<RuntimeServerEndpoint version="2011-03-08" path="([^"]+)"/>', version)
    assert found
    reader, writer = await asyncio.open_unix_connection(found[1])
    header = await reader.readuntil(b"\r\n")
    goal = await reader.readexactly(int(header, 16))
    assert await reader.readexactly(2) == b"\r\n"
    assert b"\r\n" not in goal  # the Node client splits at these
    document = re.search(rb"<RoleEnvironmentPath>(.+)</RoleEnvironmentPath>", goal)
    assert document
    assert re.search(rb"<Incarnation>\d+</Incarnation><ExpectedState>Started</ExpectedState>", goal)
    assert b"<Deadline>9999-12-31T23:59:59.9999999</Deadline>" in goal
    path = Path(document[1].decode())
    assert modes(path) == {0o600}
    read = parse_snapshot(content(path))
    assert read.settings == {"Q": AWKWARD}
    assert read.current_role_instance.id == "B_IN_3"
    assert (read.current_role_instance.fault_domain, read.current_role_instance.update_domain) == (1, 3)
    assert read == plan.snapshot()
    writer.close()


async def test_messages_arrive_whole_and_in_order(plan: InstancePlan) -> None:
    heard: list[CurrentState] = []
    async with RuntimeChannel("rolehost-test", heard.append, 30) as channel:
        first = channel.expect_started(plan.snapshot())
        client = await RuntimeClient.connect(channel.endpoint)
        assert await client.next_goal()
        assert await client.report("Busy", "The role is starting.")
        assert await client.report("Started")
        channel.expect_stopped(2.5)
        goal = await client.next_goal()
        assert goal is not None
        assert (goal.incarnation, goal.expected, goal.seconds) == (first + 1, "Stopped", 2.5)
        client.take(goal)
        assert await client.report("Stopped")
        states = [(state.status, state.detail, state.incarnation, state.heartbeat) for state in heard]
        assert states == [
            ("Busy", "The role is starting.", first, True),
            ("Started", "", first, True),
            ("Stopped", "", first + 1, True),
        ]
        client._writer.close()


async def test_what_a_foreign_client_writes_is_understood_and_rubbish_is_survived(plan: InstancePlan) -> None:
    heard: list[CurrentState] = []
    async with RuntimeChannel("rolehost-test", heard.append, 30) as channel:
        first = channel.expect_started(plan.snapshot())
        states = os.path.join(os.path.dirname(channel.endpoint), "s")  # noqa: PTH118, PTH120 - sockets have text paths
        lease = (
            b'<?xml version="1.0" encoding="utf-8"?><CurrentState><StatusLease ClientId="c"><Acquire>'
            b"<Incarnation>%d</Incarnation><Status>Recycle</Status><StatusDetail>Recycle</StatusDetail>"
            b"<Expiration>9999-12-31T23:59:59.999Z</Expiration></Acquire></StatusLease></CurrentState>" % first
        )
        release = b'<CurrentState><StatusLease ClientId="c"><Release/></StatusLease></CurrentState>'
        for message in (b"<", b"<a/>", b"<CurrentState/>", lease.replace(b"Recycle<", b"Gone<"), lease, release):
            await exchange(states, message)
        assert [(state.client_id, state.status, state.heartbeat) for state in heard] == [
            ("c", "Recycle", False),
            ("c", None, False),
        ]


async def test_a_client_that_leaves_its_connection_open_is_heard(plan: InstancePlan) -> None:
    heard: list[CurrentState] = []
    async with RuntimeChannel("rolehost-test", heard.append, 30) as channel:
        first = channel.expect_started(plan.snapshot())
        _, writer = await asyncio.open_unix_connection(Path(channel.endpoint).parent / "s")
        writer.write(current_state(CurrentState("c", "Busy", first)) + b"\r\n")
        async with asyncio.timeout(5):
            while not heard:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.001)
        writer.close()


async def test_a_message_of_an_earlier_life_is_dropped_and_one_before_a_change_is_not(plan: InstancePlan) -> None:
    heard: list[CurrentState] = []
    async with RuntimeChannel("rolehost-test", heard.append, 30) as channel:
        first = channel.expect_started(plan.snapshot())
        client = await RuntimeClient.connect(channel.endpoint)
        await client.next_goal()
        assert channel.connected
        changed = channel.expect_started(plan.snapshot())
        assert changed == first + 1
        await client.report("Busy")  # it has not yet taken the change
        assert [(state.status, state.incarnation) for state in heard] == [("Busy", first)]
        channel.expect_stopped(1)
        channel.expect_started(plan.snapshot())
        await client.report("Recycle")
        assert len(heard) == 1
        client._writer.close()


async def test_a_life_that_crashed_is_followed_by_another_and_not_by_a_change(plan: InstancePlan) -> None:
    heard: list[CurrentState] = []
    async with RuntimeChannel("rolehost-test", heard.append, 30) as channel:
        channel.expect_started(plan.snapshot())
        client = await RuntimeClient.connect(channel.endpoint)
        await client.next_goal()
        client._writer.close()
        async with asyncio.timeout(5):
            while channel.connected:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.001)
        channel.expect_started(plan.snapshot())
        await client.report("Started")
        assert heard == []


async def test_the_documents_of_passed_goals_stay_for_a_moment_and_go_with_their_life(plan: InstancePlan) -> None:
    async with RuntimeChannel("rolehost-test", lambda _: None, 30) as channel:
        channel.expect_started(plan.snapshot())
        client = await RuntimeClient.connect(channel.endpoint)
        first = await client.next_goal()
        assert first is not None
        channel.expect_started(plan.snapshot())
        assert content(Path(first.environment_path))
        for _ in range(20):
            channel.expect_started(plan.snapshot())
        assert len(documents(channel)) < 10
        assert Path(first.environment_path).name not in documents(channel)
        channel.expect_stopped(1)
        last = channel.expect_started(plan.snapshot())
        assert documents(channel) == [f"B_IN_3.{last}.xml"]
        client._writer.close()


async def test_incarnations_grow_also_for_a_client_that_compares_them_as_text(plan: InstancePlan) -> None:
    async with RuntimeChannel("rolehost-test", lambda _: None, 30) as channel:
        told = [str(channel.expect_started(plan.snapshot())) for _ in range(120)]
        assert told == sorted(set(told))


async def test_every_listener_hears_of_each_goal(plan: InstancePlan) -> None:
    async with RuntimeChannel("rolehost-test", lambda _: None, 30) as channel:
        channel.expect_started(plan.snapshot())
        clients = [await RuntimeClient.connect(channel.endpoint) for _ in range(3)]
        for client in clients:
            assert await client.next_goal()
        last = channel.expect_started(plan.snapshot())
        for client in clients:
            goal = await client.next_goal()
            assert goal is not None
            assert goal.incarnation == last
            client._writer.close()


def test_extras_of_an_environment_are_attributes_that_foreign_clients_ignore(plan: InstancePlan) -> None:
    certificate = Certificate("Tls", "AB" * 20, '/a "path"/ü.pem')
    public = RoleInstanceEndpoint("Http", ("127.0.0.1", 20000), "http", ("203.0.113.9", 80))
    current = RoleInstance("B_IN_3", 1, 3, MappingProxyType({"Http": public}))
    told = replace(
        plan.snapshot(),
        current_role_instance=current,
        roles=MappingProxyType({"B": Role("B", (current,)), "C": Role("C")}),
        certificates=MappingProxyType({"Tls": certificate}),
    )
    document = environment_document(told)
    assert parse_snapshot(document) == told
    assert set(re.findall(r"<([A-Za-z]+)", document.decode())) == PUBLISHED
    emulated = parse_snapshot(environment_document(replace(told, is_emulated=True)))
    assert emulated.current_role_instance.instance_endpoints["Http"].public_ip_endpoint is None


def test_extras_of_a_goal_are_attributes_that_foreign_clients_ignore() -> None:
    goal = GoalState(3, "Started", "/e", "/s", None, 7, simultaneous=True, changing_seconds=3, status_check_seconds=4)
    body = goal_frame(goal).split(b"\r\n")[1]
    assert read_goal(body) == goal
    named = re.findall(r"<([A-Za-z]+)", body.decode())
    parts = "Incarnation ExpectedState RoleEnvironmentPath CurrentStateEndpoint Deadline"
    assert named == ["GoalState", *parts.split()]
    plain = re.sub(rb"<GoalState[^>]*>", b"<GoalState>", body)
    assert read_goal(plain) == GoalState(3, "Started", "/e", "/s")


async def test_the_client_notices_that_the_host_is_gone(plan: InstancePlan) -> None:
    async with RuntimeChannel("rolehost-test", lambda _: None, 30) as channel:
        channel.expect_started(plan.snapshot())
        client = await RuntimeClient.connect(channel.endpoint)
        assert await client.next_goal()
    assert await client.next_goal() is None
    assert await client.report("Started") is False
    client._writer.close()


async def test_the_sockets_directory_is_private_short_and_removed(
    plan: InstancePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    make(long)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    left = Path("/tmp/rolehost-test-left")  # noqa: S108 - where a killed host would have left it
    make(left)
    async with RuntimeChannel("rolehost-test", lambda _: None, 30) as channel:
        channel.expect_started(plan.snapshot())
        directory = Path(channel.endpoint).parent
        assert modes(directory) == {0o700}
        assert modes(*directory.iterdir()) == {0o600}
        assert str(directory).startswith("/tmp/rolehost-test-")  # noqa: S108 - the fallback
        assert not modes(left)
    assert not modes(directory)


def test_a_stop_has_its_deadline_in_both_forms() -> None:
    body = goal_frame(GoalState(4, "Stopped", "/e", "/s", 12.5, 30)).split(b"\r\n")[1]
    assert re.search(rb"<Deadline>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}</Deadline>", body)
    assert read_goal(body) == GoalState(4, "Stopped", "/e", "/s", 12.5, 30)


@pytest.mark.parametrize("message", [b"<GoalState/>", b"<!DOCTYPE x><GoalState/>", b"nonsense"])
def test_messages_that_cannot_be_read(message: bytes) -> None:
    with pytest.raises(WireError):
        read_goal(message)
    with pytest.raises(WireError):
        read_current_state(message)
