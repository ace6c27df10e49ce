from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from rolehost import clock
from rolehost.host.ports.load_balancer import LoadBalancer, Seen, ask_probe
from rolehost.host.ports.rotation import Backend
from rolehost.service_model import LoadBalancerProbe
from support.fake_clock import FakeClock

HERE = ("127.0.0.1", 1)
PROBE = LoadBalancerProbe(name="Health", protocol="http", path="/health")


class Port:
    def __init__(self) -> None:
        self.ready: set[str] = set()
        self.history: list[set[str]] = []

    def set_backends(self, backends: Iterable[Backend]) -> None:
        self.ready = {each.instance for each in backends if each.ready}
        self.history.append(self.ready)


def seen(state: str, life: str = "1", instance: str = "A_IN_0") -> Seen:
    return Seen(instance=instance, state=state, life=life, address=HERE, probe=HERE)


STATES = ("Starting", "Busy", "Ready", "Stopping", "Recycling", "Stopped")


async def test_the_default_probe_says_yes_only_while_the_instance_is_ready() -> None:
    port = Port()
    balancer = LoadBalancer(port)
    ready = {}
    for state in STATES:
        balancer.note(seen(state))
        ready[state] = bool(port.ready)
    assert [state for state in STATES if ready[state]] == ["Ready"]
    balancer.note(seen("Ready", instance="A_IN_1"))
    balancer.note(seen("Ready"))
    assert port.ready == {"A_IN_0", "A_IN_1"}
    balancer.forget("A_IN_0")
    assert port.ready == {"A_IN_1"}


async def test_ignored_status_leaves_the_instance_in_for_as_long_as_its_process_lives() -> None:
    port = Port()
    balancer = LoadBalancer(port, probe=PROBE, ignore_status=True)
    for state in STATES:
        balancer.note(seen(state))
        assert port.ready == {"A_IN_0"}
    balancer.note(seen("Recycling", life=""))
    assert port.ready == set()


class Role:
    """What a probe meets; `answer` None takes as long as it is waited for."""

    def __init__(self, time: FakeClock) -> None:
        self.answer: bool | None = True
        self.asked_at: list[float] = []
        self._time = time

    async def ask(self, _probe: LoadBalancerProbe, _address: tuple[str, int], seconds: float) -> bool | None:
        self.asked_at.append(self._time.seconds)
        if self.answer is None:
            await clock.sleep(seconds)
        return self.answer


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return FakeClock(monkeypatch)


@asynccontextmanager
async def balancing(time: FakeClock) -> AsyncIterator[tuple[LoadBalancer, Port, Role]]:
    port, role = Port(), Role(time)
    balancer = LoadBalancer(port, probe=PROBE, ask=role.ask)
    try:
        yield balancer, port, role
    finally:
        balancer.close()


async def test_a_custom_probe_asks_every_fifteen_seconds(time: FakeClock) -> None:
    async with balancing(time) as (balancer, port, role):
        balancer.note(seen("Ready"))
        assert port.ready == set()  # not before its first yes
        await time.advance(0)
        assert port.ready == {"A_IN_0"}
        await time.advance(50)
        assert [round(moment) for moment in role.asked_at] == [0, 15, 30, 45]


async def test_the_first_probes_of_a_life_come_quickly(time: FakeClock) -> None:
    async with balancing(time) as (balancer, port, role):
        role.answer = False
        balancer.note(seen("Starting"))
        await time.advance(3)
        assert len(role.asked_at) >= 5
        await time.advance(60)
        slow = len(role.asked_at)
        await time.advance(30)
        assert len(role.asked_at) == slow + 2  # a role that says no goes on being asked at the interval
        role.answer = True
        balancer.note(seen("Ready"))
        await time.advance(0)
        assert port.ready == {"A_IN_0"}  # what became of its state is a reason to ask at once


async def test_a_custom_probe_is_not_withdrawn_for_on_stop(time: FakeClock) -> None:
    async with balancing(time) as (balancer, port, role):
        balancer.note(seen("Ready"))
        await time.advance(1)
        for state in ("Busy", "Stopping"):
            balancer.note(seen(state))
            assert port.ready == {"A_IN_0"}
            await time.advance(20)
            assert port.ready == {"A_IN_0"}
        role.answer = False
        await time.advance(15)
        assert port.ready == set()
        balancer.note(seen("Recycling", life=""))
        role.answer = True
        await time.advance(60)
        assert port.ready == set()  # nothing lives there


async def test_a_no_takes_out_at_once_and_a_yes_brings_back(time: FakeClock) -> None:
    async with balancing(time) as (balancer, port, role):
        balancer.note(seen("Ready"))
        await time.advance(1)
        role.answer = False
        await time.advance(15)
        assert port.ready == set()
        role.answer = True
        await time.advance(15)
        assert port.ready == {"A_IN_0"}
        await time.advance(300)
        assert port.ready == {"A_IN_0"}


async def test_silence_takes_out_when_the_timeout_is_over(time: FakeClock) -> None:
    async with balancing(time) as (balancer, port, role):
        balancer.note(seen("Ready"))
        await time.advance(1)
        role.answer = None  # the last answer was at 0
        await time.advance(29.9)
        assert port.ready == {"A_IN_0"}
        await time.advance(0.2)
        assert port.ready == set()


async def test_a_new_life_starts_out_of_rotation(time: FakeClock) -> None:
    async with balancing(time) as (balancer, port, role):
        balancer.note(seen("Ready", life="1"))
        await time.advance(1)
        assert port.ready == {"A_IN_0"}
        role.answer = False
        balancer.note(seen("Starting", life="2"))
        assert port.ready == set()
        balancer.forget("A_IN_0")
        role.answer = True
        await time.advance(60)
        assert port.ready == set()


@asynccontextmanager
async def answering(text: bytes | None) -> AsyncIterator[tuple[tuple[str, int], list[bytes]]]:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.clear()
        if text is None:
            await reader.read()
        else:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(text)
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[:2], heads
        await ended.wait()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.0 200\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", False),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"nonsense\r\n", False),
        (b"", False),
        (None, None),
    ],
)
async def test_http_probe(text: bytes | None, answer: bool | None) -> None:  # noqa: FBT001 - the expected answer
    async with answering(text) as (address, heads):
        assert await ask_probe(PROBE, address, 5 if text is not None else 0.05) is answer
        if heads:
            assert heads[0].startswith(f"GET /health HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n".encode())


async def test_tcp_probe() -> None:
    probe = LoadBalancerProbe(name="Alive", protocol="tcp")
    async with answering(None) as (address, _):
        assert await ask_probe(probe, address, 5) is True
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert await ask_probe(probe, silent.getsockname(), 5) is False
