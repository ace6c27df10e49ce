from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest

from rolehost import clock
from rolehost.errors import RoleHostError
from rolehost.host.ports import udp_relay
from rolehost.host.ports.rotation import Backend
from rolehost.host.ports.udp_relay import UdpRelay
from rolehost.telemetry import subscribe


class Answering(asyncio.DatagramProtocol):
    """Answers each datagram with its name, and what it got."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        self.transport.sendto(self.name + b" " + data, client)


@asynccontextmanager
async def backend(name: str, port: int = 0) -> AsyncIterator[Backend]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Answering(name.encode()), ("127.0.0.1", port))
    try:
        yield Backend(name, transport.get_extra_info("sockname"))
    finally:
        transport.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def relaying(*backends: Backend, idle_seconds: float = 60.0, most: int = 16) -> AsyncIterator[UdpRelay]:
    relay = UdpRelay("127.0.0.1", 0, idle_seconds=idle_seconds, most=most)
    relay.set_backends(backends)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.close()


def client(relay: UdpRelay) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(0)
    made.connect(("127.0.0.1", relay.port))
    return made


async def ask(asking: socket.socket, text: str = "?") -> str:
    asking.send(text.encode())
    async with asyncio.timeout(5):
        return (await asyncio.get_running_loop().sock_recv(asking, 1 << 16)).decode()


async def test_a_client_stays_with_its_instance_and_clients_are_spread() -> None:
    async with backend("a") as a, backend("b") as b, relaying(a, b) as relay:
        with closing(client(relay)) as one, closing(client(relay)) as other:
            firsts = {await ask(one), await ask(other)}
            assert firsts == {"a ?", "b ?"}
            assert {await ask(one) for _ in range(5)} | {await ask(other) for _ in range(5)} == firsts
            assert len({await ask(one) for _ in range(5)}) == 1


async def test_large_and_empty_datagrams_pass() -> None:
    async with backend("a") as a, relaying(a) as relay:
        with closing(client(relay)) as asking:
            assert await ask(asking, "") == "a "
            assert await ask(asking, "x" * 60_000) == "a " + "x" * 60_000


async def test_a_busy_instance_keeps_its_clients_and_gets_no_new_ones() -> None:
    async with backend("a") as a, backend("b") as b, relaying(a) as relay:
        with closing(client(relay)) as kept, closing(client(relay)) as fresh:
            assert await ask(kept) == "a ?"
            relay.set_backends([Backend("a", a.address, ready=False), b])
            assert await ask(kept) == "a ?"
            assert await ask(fresh) == "b ?"
            relay.set_backends([b])  # now it is gone
            assert await ask(kept) == "b ?"


async def test_a_client_whose_instance_died_gets_another() -> None:
    async with backend("b") as b, relaying() as relay:
        with closing(client(relay)) as asking:
            async with backend("a") as a:
                relay.set_backends([a])
                assert await ask(asking) == "a ?"
            relay.set_backends([a, b])  # nobody has noticed yet
            relay._rotation._turn = "a"
            assert await answer_in_the_end(asking) == "b ?"
            assert relay._rotation._open == {"b": 1}


async def test_a_second_datagram_to_a_dead_instance_goes_to_another_at_once() -> None:
    async with backend("b") as b, relaying() as relay:
        with closing(client(relay)) as asking:
            async with backend("a") as a:
                relay.set_backends([a])
                assert await ask(asking) == "a ?"
            relay.set_backends([a, b])
            asking.send(b"lost")
            assert await ask(asking, "kept") == "b kept"
            assert relay._rotation._open == {"b": 1}


async def answer_in_the_end(asking: socket.socket) -> str:
    """The datagram that finds nobody there is lost."""
    async with asyncio.timeout(5):
        while True:
            try:
                async with asyncio.timeout(0.1):
                    return await ask(asking)
            except TimeoutError:
                continue


async def test_nobody_ready_loses_the_datagram_and_not_the_port() -> None:
    async with backend("a") as a, relaying(Backend("a", a.address, ready=False)) as relay:
        with closing(client(relay)) as asking:
            asking.send(b"lost")
            await asyncio.sleep(0.02)
            relay.set_backends([a])
            assert await ask(asking, "kept") == "a kept"


async def test_lost_datagrams_are_counted_and_told_at_once_and_then_together() -> None:
    told: list[tuple[str, object, object]] = []
    end = subscribe(lambda event, facts: told.append((event, facts["port"], facts["count"])))
    async with backend("a") as a, relaying() as relay:
        with closing(client(relay)) as asking:
            for _ in range(4):
                asking.send(b"lost")
            async with asyncio.timeout(5):
                while not told:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.005)
            relay.set_backends([a])
            assert await ask(asking, "kept") == "a kept"
    end()
    assert told == [("endpoint.datagrams_lost", relay.port, count) for count in (1, 3)]


async def test_a_port_that_goes_on_losing_datagrams_says_so_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_relay, "TELL_SECONDS", 0.01)
    counts: list[int] = []
    end = subscribe(lambda _, facts: counts.append(facts["count"]))
    async with relaying() as relay:
        with closing(client(relay)) as asking:
            async with asyncio.timeout(10):
                while len(counts) < 3:
                    asking.send(b"lost")
                    await asyncio.sleep(0.005)
    end()


async def test_a_silent_client_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    async with backend("a") as a, relaying(a, idle_seconds=0.04) as relay:
        with closing(client(relay)) as asking:
            await ask(asking)
            assert relay._rotation._open == {"a": 1}
            now = 0.039
            await asyncio.sleep(0.05)
            assert relay._rotation._open == {"a": 1}
            now = 0.041
            async with asyncio.timeout(5):
                while relay._rotation._open:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.005)
            assert await ask(asking) == "a ?"


async def test_the_longest_silent_client_makes_room() -> None:
    async with backend("a") as a, relaying(a, most=2) as relay:
        clients = [client(relay) for _ in range(3)]
        for asking in (clients[0], clients[1], clients[0], clients[2]):
            assert await ask(asking) == "a ?"
        assert [session.getsockname() for session in (clients[0], clients[2])] == list(relay._sessions)
        for asking in clients:
            asking.close()


async def test_a_port_in_use_is_said_at_once() -> None:
    async with relaying() as relay:
        with pytest.raises(RoleHostError, match=rf"can't listen on 127.0.0.1 port {relay.port} \(udp\)"):
            UdpRelay("127.0.0.1", relay.port)


async def test_an_instance_that_can_not_be_reached_keeps_no_count() -> None:
    no_way = Backend("a", ("255.255.255.255", 9))  # only who asks for it may broadcast
    async with backend("b") as b, relaying(no_way) as relay:
        with closing(client(relay)) as asking:
            asking.send(b"lost")
            async with asyncio.timeout(5):
                while not relay._rotation._turn:  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(0.005)
            assert relay._rotation._open == {}
            relay.set_backends([b])
            assert await ask(asking, "kept") == "b kept"
            assert relay._rotation._open == {"b": 1}
