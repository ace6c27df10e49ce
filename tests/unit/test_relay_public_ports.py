from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from rolehost.errors import RoleHostError
from rolehost.host.ports.public_ports import PublicPorts
from rolehost.service_model import (
    InputEndpoint,
    InstanceInputEndpoint,
    LoadBalancerProbe,
    PortRange,
    RoleModel,
    ServiceModel,
)
from rolehost.telemetry import subscribe


def free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        found = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def service(role: RoleModel, **more: Any) -> ServiceModel:
    return ServiceModel(name="S", roles={role.name: role}, **more)


def web(*endpoints: InputEndpoint, **more: Any) -> RoleModel:
    return RoleModel(name="Web", entry_point="m:C", instances=2, endpoints={e.name: e for e in endpoints}, **more)


def http(port: int, name: str = "Http", **more: Any) -> InputEndpoint:
    return InputEndpoint(name=name, protocol="http", port=port, **more)


@asynccontextmanager
async def opened(ports: PublicPorts) -> AsyncIterator[PublicPorts]:
    await ports.start()
    try:
        yield ports
    finally:
        await ports.close()


@asynccontextmanager
async def instance(name: str) -> AsyncIterator[tuple[str, int]]:
    """Answers the first line, whatever it is, with its name."""
    writers = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while await reader.readline():
            writer.write(f"{name}\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2]
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.01)  # what was connected ends


def facts(name: str, state: str = "Ready", **endpoints: tuple[str, int]) -> Mapping[str, Any]:
    places = {each: {"protocol": "http", "address": at[0], "port": at[1]} for each, at in endpoints.items()}
    common = {"role": name.partition("_")[0], "pid": 7, "started_at": "2026-11-21T00:00:00.000Z"}
    return {"instance": name, "state": state, "endpoints": places, **common}


async def ask(port: int) -> str:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"?\n")
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()


async def test_the_instances_of_a_role_share_its_port() -> None:
    (port,) = free_ports(1)
    ports = PublicPorts("127.0.0.1")
    ports.bind(service(web(http(port))), {})
    async with opened(ports), instance("Web_IN_0") as first, instance("Web_IN_1") as second:
        assert ports.front == f"127.0.0.1:{port}"
        assert ports.public("Web") == {"Http": f"127.0.0.1:{port}"}
        ports.note(facts("Web_IN_0", Http=first))
        ports.note(facts("Web_IN_1", "Starting", Http=second))
        assert {await ask(port) for _ in range(4)} == {"Web_IN_0"}
        ports.note(facts("Web_IN_1", Http=second))
        assert {await ask(port) for _ in range(4)} == {"Web_IN_0", "Web_IN_1"}
        ports.forget("Web_IN_0")
        assert {await ask(port) for _ in range(4)} == {"Web_IN_1"}


async def test_the_front_port_can_be_another() -> None:
    taken, own = free_ports(2)
    model = service(web(InputEndpoint(name="Tcp", protocol="tcp", port=own), http(taken)))
    ports = PublicPorts("127.0.0.1", 0)
    ports.bind(model, {})
    async with opened(ports):
        assert ports.front not in {None, f"127.0.0.1:{taken}"}
        assert ports.public("Web") == {"Tcp": f"127.0.0.1:{own}", "Http": ports.front}
        front = ports.front
        ports.bind(model, {})
        assert ports.front == front


async def test_a_wildcard_stays_one_for_those_who_decide_by_it() -> None:
    (port,) = free_ports(1)
    ports = PublicPorts("0.0.0.0")  # noqa: S104 - as `up --host 0.0.0.0` does
    ports.bind(service(web(http(port))), {})
    async with opened(ports):
        assert ports.public("Web") == {"Http": f"0.0.0.0:{port}"}
        assert ports.front == f"127.0.0.1:{port}"


async def test_a_port_in_use_leaves_everything_as_it_was() -> None:
    port, other = free_ports(2)
    ports = PublicPorts("127.0.0.1")
    ports.bind(service(web(http(port))), {})
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        async with opened(ports), instance("Web_IN_0") as address:
            changed = service(web(http(other), http(held.getsockname()[1], "Second")))
            with pytest.raises(RoleHostError, match="Address already in use"):
                ports.bind(changed, {})
            ports.note(facts("Web_IN_0", Http=address))
            assert await ask(port) == "Web_IN_0"
            with pytest.raises(ConnectionRefusedError):
                await ask(other)


async def test_a_change_opens_new_ports_closes_old_ones_and_keeps_what_is_connected() -> None:
    kept_port, old, new = free_ports(3)
    ports = PublicPorts("127.0.0.1")
    ports.bind(service(web(http(kept_port), http(old, "Old"))), {})
    async with opened(ports), instance("Web_IN_0") as address:
        ports.note(facts("Web_IN_0", Http=address, Old=address, New=address))
        reader, writer = await asyncio.open_connection("127.0.0.1", old)
        writer.write(b"?\n")
        await reader.readline()
        ports.bind(service(web(http(kept_port), http(new, "New"))), {})
        assert ports.public("Web") == {"Http": f"127.0.0.1:{kept_port}", "New": f"127.0.0.1:{new}"}
        assert [await ask(kept_port), await ask(new)] == ["Web_IN_0", "Web_IN_0"]
        with pytest.raises(ConnectionRefusedError):
            await ask(old)
        writer.write(b"?\n")
        assert await reader.readline() == b"Web_IN_0\n"
        writer.close()


async def test_every_instance_has_its_own_port_of_a_range() -> None:
    range_of_three = free_range(3)
    first = range_of_three.first
    debug = InstanceInputEndpoint(name="Debug", protocol="tcp", local_port=3389, public_ports=range_of_three)
    model = service(web(instance_input_endpoints={"Debug": debug}))
    events: list[tuple[str, dict[str, Any]]] = []
    unsubscribe = subscribe(lambda event, told: events.append((event, told)))
    with socket.socket() as other:
        other.bind(("127.0.0.1", first))
        other.listen()
        ports = PublicPorts("127.0.0.1")
        ports.bind(model, {})
        async with opened(ports), instance("Web_IN_0") as zero, instance("Web_IN_1") as one:
            assert ports.front is None
            assert ports.public("Web_IN_0") == {"Debug": f"127.0.0.1:{first + 1}"}
            ports.note(facts("Web_IN_0", Debug=zero))
            ports.note(facts("Web_IN_1", Debug=one))
            assert [await ask(first + 1), await ask(first + 2)] == ["Web_IN_0", "Web_IN_1"]
            assert not events
            ports.bind(model, {"Web": 3})
            assert events == [
                ("endpoint.no_port", {"instance": "Web_IN_2", "endpoint": "Debug", "first": first, "last": first + 2})
            ]
            assert ports.public("Web_IN_2") == {}
            assert await ask(first + 2) == "Web_IN_1"
            ports.bind(model, {"Web": 1})
            assert await ask(first + 1) == "Web_IN_0"
            with pytest.raises(ConnectionRefusedError):
                await ask(first + 2)
    unsubscribe()


def free_range(number: int) -> PortRange:
    for first in range(21_000, 30_000, number):
        with ExitStack() as held:
            try:
                for port in range(first, first + number):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return PortRange(first, first + number - 1)
    raise AssertionError("no three ports are free")


async def test_a_probe_goes_to_the_port_that_the_instance_has_in_the_place_of_the_declared_one() -> None:
    public, status = free_ports(2)
    probe = LoadBalancerProbe(name="Health", protocol="http", path="/", port=81)
    endpoints = (http(public, probe="Health"), http(status, "Status", local_port=81))
    ports = PublicPorts("127.0.0.1")
    ports.bind(service(web(*endpoints), probes={"Health": probe}), {})
    async with opened(ports), instance("Web_IN_0") as address, instance("HTTP/1.1 200 OK") as probed:
        ports.note(facts("Web_IN_0", "Starting", Http=address, Status=probed))
        assert await ask(public) == "Web_IN_0"


async def test_a_changed_probe_counts_at_once() -> None:
    (port,) = free_ports(1)
    role = web(http(port))
    probe = LoadBalancerProbe(name="Health", protocol="tcp")
    ports = PublicPorts("127.0.0.1")
    ports.bind(service(role), {})
    async with opened(ports), instance("Web_IN_0") as address:
        ports.note(facts("Web_IN_0", "Busy", Http=address))
        asking = asyncio.create_task(ask(port))
        await asyncio.wait([asking], timeout=0.05)
        assert not asking.done()
        probed = replace(role, endpoints={"Http": http(port, probe="Health")})
        ports.bind(service(probed, probes={"Health": probe}), {})
        assert await asking == "Web_IN_0"


async def test_udp_endpoints_are_relayed_too() -> None:
    (port,) = free_ports(1)
    ports = PublicPorts("127.0.0.1")
    ports.bind(service(web(http(port), InputEndpoint(name="Udp", protocol="udp", port=port))), {})
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as role,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        role.bind(("127.0.0.1", 0))
        role.settimeout(0)
        client.settimeout(0)
        async with opened(ports):
            ports.note(facts("Web_IN_0", Udp=role.getsockname()))
            client.sendto(b"hello", ("127.0.0.1", port))
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(5):
                data, peer = await loop.sock_recvfrom(role, 100)
                role.sendto(data.upper(), peer)
                assert await loop.sock_recv(client, 100) == b"HELLO"


async def test_many_connections_are_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
        async with opened(PublicPorts("127.0.0.1")):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_stop_refuses_new_connections_and_lets_the_others_end() -> None:
    (port,) = free_ports(1)
    ports = PublicPorts("127.0.0.1")
    ports.bind(service(web(http(port))), {})
    async with opened(ports), instance("Web_IN_0") as address:
        ports.note(facts("Web_IN_0", Http=address))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"?\n")
        await reader.readline()
        ports.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await ask(port)
        writer.write(b"?\n")
        assert await reader.readline() == b"Web_IN_0\n"
        writer.close()
