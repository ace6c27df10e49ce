"""The host's end of the runtime channel, with Microsoft's published Node client at the other."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from host_support import free_port
from node_client_support import Guest, lay_out

from rolehost import clock
from rolehost.environment import LocalResource, Role, RoleInstance, RoleInstanceEndpoint, Snapshot
from rolehost.host.channel.server import RuntimeChannel
from rolehost.host.channel.wire import CurrentState

pytestmark = pytest.mark.acceptance

AWKWARD = "a <b> & \"c\" 'd' ü €"


class Host:
    """A channel, and what its client said."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.channel = RuntimeChannel("rolehost-node", self._note, 30)
        self.snapshot = snapshot
        self._states: list[CurrentState] = []
        self._heard = asyncio.Event()
        self.first = 0

    def _note(self, state: CurrentState) -> None:
        self._states.append(state)
        self._heard.set()

    def change(self, **settings: str) -> int:
        """Expect the role to take other settings; the answer is the incarnation."""
        self.snapshot = replace(self.snapshot, settings=MappingProxyType({**self.snapshot.settings, **settings}))
        return self.channel.expect_started(self.snapshot)

    async def until_state(self, status: str | None, times: int = 1) -> CurrentState:
        """The message that said this, once there were so many."""
        async with asyncio.timeout(10):
            while len(found := [state for state in self._states if state.status == status]) < times:
                self._heard.clear()
                await self._heard.wait()
        return found[times - 1]


def instance(number: int, port: int) -> RoleInstance:
    orders = RoleInstanceEndpoint("Orders", ("127.0.0.1", port + number), "tcp")
    return RoleInstance(f"Guest_IN_{number}", number % 2, number, MappingProxyType({"Orders": orders}))


def topology(port: int, count: int) -> dict[str, Any]:
    role = Role("Guest", tuple(instance(number, port) for number in range(count)))
    return {
        "roles": MappingProxyType({"Guest": role, "Other": Role("Other")}),
        "current_role_instance": role.instances[0],
    }


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    (tmp_path / "trace").mkdir()
    return Snapshot(
        deployment_id="0123456789abcdef",
        is_emulated=True,
        settings=MappingProxyType({"Colour": "red", "Text": AWKWARD}),
        local_resources=MappingProxyType({"Trace": LocalResource("Trace", f"{tmp_path}/trace/", 7)}),
        **topology(free_port(), 2),
    )


@pytest.fixture
async def host(snapshot: Snapshot) -> AsyncIterator[Host]:
    host = Host(snapshot)
    async with host.channel:
        host.first = host.channel.expect_started(snapshot)
        yield host


@pytest.fixture
def guest(host: Host, tmp_path: Path) -> Iterator[Guest]:
    program = lay_out(tmp_path)
    address, port = host.snapshot.current_role_instance.instance_endpoints["Orders"].ip_endpoint
    environ = {**os.environ, "WaRuntimeEndpoint": host.channel.endpoint}
    with subprocess.Popen(["node", program], env=environ, cwd=tmp_path) as process:
        yield Guest(tmp_path / "trace", address, port)
        process.kill()


async def facts(guest: Guest) -> dict[str, Any]:
    await asyncio.to_thread(guest.until, "listening")
    return await asyncio.to_thread(guest.facts)


async def test_the_node_client_sees_its_environment(host: Host, guest: Guest) -> None:
    seen = await facts(guest)
    port = host.snapshot.current_role_instance.instance_endpoints["Orders"].ip_endpoint[1]
    assert seen["available"] is True
    assert seen["emulated"] in {True, "true"}
    assert (seen["deployment"], seen["instance"], seen["role"]) == ("0123456789abcdef", "Guest_IN_0", "Guest")
    assert (seen["faultDomain"], seen["updateDomain"]) == ("0", "0")
    assert seen["endpoints"] == {"Orders": ["tcp", "127.0.0.1", str(port)]}
    assert seen["settings"] == {"Colour": "red", "Text": AWKWARD}
    assert seen["resources"]["Trace"]["sizeInMB"] == "7"
    assert seen["roles"] == {"Guest": ["Guest_IN_0", "Guest_IN_1"], "Other": []}


async def test_the_node_client_takes_and_releases_a_status_lease(host: Host, guest: Guest) -> None:
    await facts(guest)
    await asyncio.to_thread(guest.tell, "busy", 60)
    busy = await host.until_state("Busy")
    assert (busy.incarnation, busy.heartbeat) == (host.first, False)
    assert 50 < (clock.from_iso(busy.expiration) - clock.now()).total_seconds() < 61
    await asyncio.to_thread(guest.tell, "clear")
    assert (await host.until_state(None)).client_id == busy.client_id
    await asyncio.to_thread(guest.tell, "recycle")
    assert (await host.until_state("Recycle")).incarnation == host.first


async def test_the_node_client_hears_of_a_change_and_accepts_it_with_its_last_status(host: Host, guest: Guest) -> None:
    await facts(guest)
    await asyncio.to_thread(guest.tell, "busy", 60)
    await host.until_state("Busy")
    incarnation = host.change(Colour="blue", New="1")
    changed = await asyncio.to_thread(guest.until, "changed")
    names = {change["name"] for change in changed["changes"]}
    assert names == {"Colour", "New"}
    assert guest.events("changing")[0]["changes"] == changed["changes"]
    assert changed["settings"]["Colour"] == "blue"
    assert (await host.until_state("Busy", 2)).incarnation == incarnation


async def test_the_node_client_hears_of_another_instance(host: Host, guest: Guest) -> None:
    await facts(guest)
    port = host.snapshot.current_role_instance.instance_endpoints["Orders"].ip_endpoint[1]
    host.channel.expect_started(replace(host.snapshot, **topology(port, 3)))
    changed = await asyncio.to_thread(guest.until, "changed")
    assert changed["changes"] == [{"type": "TopologyChange", "name": "Guest"}]
    assert (await facts(guest))["roles"]["Guest"] == ["Guest_IN_0", "Guest_IN_1", "Guest_IN_2"]


async def test_the_node_client_cancels_a_change_and_asks_for_a_recycle(host: Host, guest: Guest) -> None:
    await facts(guest)
    await asyncio.to_thread(guest.tell, "cancel")
    incarnation = host.change(Colour="blue")
    assert (await host.until_state("Recycle")).incarnation == incarnation
    assert guest.events("changed") == []


async def test_the_node_client_takes_more_than_ten_changes(host: Host, guest: Guest) -> None:
    await facts(guest)
    for number in range(1, 13):
        host.change(Colour=str(number))
        changed = await asyncio.to_thread(guest.until, "changed", number)
        assert changed["settings"]["Colour"] == str(number)


async def test_the_node_client_hears_that_it_is_to_stop(host: Host, guest: Guest) -> None:
    await facts(guest)
    host.channel.expect_stopped(5)
    assert (await host.until_state("Stopped")).incarnation > host.first
    assert len(guest.events("stopping")) == 1
