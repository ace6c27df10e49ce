from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rolehost.environment import parse_snapshot
from rolehost.errors import WireError
from rolehost.host.channel import RuntimeChannel
from rolehost.host.channel_client import RuntimeClient
from rolehost.host.paths import DataDirectory
from rolehost.host.plan import InstancePlan
from rolehost.host.wire import CurrentState, GoalState, goal_frame, read_current_state, read_goal
from rolehost.service_model import InputEndpoint, LocalStorage, RoleModel, ServiceModel

AWKWARD = "a <b> & \"c\" 'd'\r\n\tü €"


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[InstancePlan]:
    role = RoleModel(
        name="B",
        entry_point="m:C",
        settings={"Q": AWKWARD},
        local_resources={"Work": LocalStorage(name="Work", size_in_mb=7)},
        endpoints={"Http": InputEndpoint(name="Http", protocol="http", port=1)},
    )
    model = ServiceModel(name="s", roles={"B": role, "C": RoleModel(name="C", entry_point="m:D")})
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        yield InstancePlan(
            model=model,
            role=role,
            number=3,
            data=DataDirectory(tmp_path),
            deployment_id="0123456789abcdef",
            sockets={"Http": listening},
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
    assert b"<Incarnation>1</Incarnation><ExpectedState>Started</ExpectedState>" in goal
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
        channel.expect_started(plan.snapshot())
        client = await RuntimeClient.connect(channel.endpoint)
        assert await client.next_goal()
        assert await client.report("Busy", "The role is starting.")
        assert await client.report("Started")
        channel.expect_stopped(2.5)
        goal = await client.next_goal()
        assert goal is not None
        assert (goal.incarnation, goal.expected, goal.seconds) == (2, "Stopped", 2.5)
        assert await client.report("Stopped")
        states = [(state.status, state.detail, state.incarnation, state.heartbeat) for state in heard]
        assert states == [
            ("Busy", "The role is starting.", 1, True),
            ("Started", "", 1, True),
            ("Stopped", "", 2, True),
        ]
        client._writer.close()


async def test_what_a_foreign_client_writes_is_understood_and_rubbish_is_survived(plan: InstancePlan) -> None:
    heard: list[CurrentState] = []
    async with RuntimeChannel("rolehost-test", heard.append, 30) as channel:
        channel.expect_started(plan.snapshot())
        states = os.path.join(os.path.dirname(channel.endpoint), "s")  # noqa: PTH118, PTH120 - sockets have text paths
        lease = (
            b'<?xml version="1.0" encoding="utf-8"?><CurrentState><StatusLease ClientId="c"><Acquire>'
            b"<Incarnation>1</Incarnation><Status>Recycle</Status><StatusDetail>Recycle</StatusDetail>"
            b"<Expiration>9999-12-31T23:59:59.999Z</Expiration></Acquire></StatusLease></CurrentState>"
        )
        release = b'<CurrentState><StatusLease ClientId="c"><Release/></StatusLease></CurrentState>'
        for message in (b"<", b"<a/>", b"<CurrentState/>", lease.replace(b"Recycle<", b"Gone<"), lease, release):
            await exchange(states, message)
        assert [(state.client_id, state.status, state.heartbeat) for state in heard] == [
            ("c", "Recycle", False),
            ("c", None, False),
        ]


async def test_a_message_of_an_earlier_life_is_dropped(plan: InstancePlan) -> None:
    heard: list[CurrentState] = []
    async with RuntimeChannel("rolehost-test", heard.append, 30) as channel:
        channel.expect_started(plan.snapshot())
        client = await RuntimeClient.connect(channel.endpoint)
        await client.next_goal()
        channel.expect_started(plan.snapshot())
        await client.report("Recycle")
        assert heard == []
        await client.next_goal()
        await client.report("Recycle")
        assert len(heard) == 1
        client._writer.close()


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
