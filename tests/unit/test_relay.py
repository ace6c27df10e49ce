from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from rolehost.errors import RoleHostError
from rolehost.host.ports import relay as relay_module
from rolehost.host.ports.relay import Relay
from rolehost.host.ports.rotation import Backend, Rotation

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RESET = struct.pack("ii", 1, 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(serve: Serve, port: int = 0) -> AsyncIterator[tuple[str, int]]:
    """A backend; the connections that it still has are closed in the end, as those of a process that ends are."""
    writers: list[asyncio.StreamWriter] = []

    async def kept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(kept, "127.0.0.1", port, backlog=500)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def relaying(*backends: Backend, hold_seconds: float = 10.0) -> AsyncIterator[Relay]:
    relay = Relay("127.0.0.1", 0, hold_seconds=hold_seconds)
    relay.set_backends(backends)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.close()


def named(name: str) -> Serve:
    """A backend that answers each line with its name."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(name.encode() + b"\n")
            await writer.drain()

    return serve


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, relay: Relay) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", relay.port))

    async def ask(self) -> str:
        self.writer.write(b"?\n")
        async with asyncio.timeout(10):
            return (await self.reader.readline()).decode().strip()

    def close(self) -> None:
        self.writer.close()


async def asked_once(relay: Relay) -> str:
    client = await Client.of(relay)
    try:
        return await client.ask()
    finally:
        client.close()


async def test_connections_are_spread_in_turn_over_those_that_are_ready() -> None:
    async with (
        serving(named("a")) as a,
        serving(named("b")) as b,
        serving(named("c")) as c,
        relaying(Backend("A", a), Backend("B", b, ready=False), Backend("C", c)) as relay,
    ):
        assert sorted([await asked_once(relay) for _ in range(6)]) == ["a"] * 3 + ["c"] * 3


async def test_the_instance_with_the_fewest_connections_is_next() -> None:
    async with (
        serving(named("a")) as a,
        serving(named("b")) as b,
        relaying(Backend("A", a), Backend("B", b)) as relay,
    ):
        clients = [await Client.of(relay) for _ in range(4)]
        names = [await client.ask() for client in clients]
        assert sorted(names) == ["a", "a", "b", "b"]
        for client, name in zip(clients, names, strict=True):
            if name == "a":
                client.close()
        await until(lambda: relay._rotation._open == {"B": 2})
        more = [await Client.of(relay) for _ in range(2)]
        assert [await client.ask() for client in more] == ["a", "a"]
        for client in clients + more:
            client.close()


async def test_a_busy_instance_keeps_its_connections_and_gets_no_new_ones() -> None:
    async with serving(named("a")) as a, serving(named("b")) as b, relaying(Backend("A", a)) as relay:
        kept = await Client.of(relay)
        assert await kept.ask() == "a"
        relay.set_backends([Backend("A", a, ready=False), Backend("B", b)])
        assert [await asked_once(relay) for _ in range(3)] == ["b", "b", "b"]
        assert await kept.ask() == "a"
        relay.set_backends([Backend("B", b)])
        assert await kept.ask() == "a"
        kept.close()


async def test_the_port_is_held_while_nobody_is_ready() -> None:
    async with serving(named("a")) as a, relaying(Backend("A", a, ready=False)) as relay:
        client = await Client.of(relay)
        asking = asyncio.create_task(client.ask())
        await until(lambda: len(relay._waiting) == 1)
        relay.set_backends([Backend("A", a)])
        assert await asking == "a"
        client.close()


async def test_who_waited_too_long_is_turned_away() -> None:
    async with relaying(hold_seconds=0.05) as relay:
        client = await Client.of(relay)
        client.writer.write(b"?\n")
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
        client.close()


async def test_an_instance_that_does_not_listen_is_passed_over() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        here = silent.getsockname()
        async with serving(named("b")) as b, relaying(Backend("A", here), Backend("B", b)) as relay:
            assert [await asked_once(relay) for _ in range(3)] == ["b", "b", "b"]
            await until(lambda: not relay._rotation._open)


async def test_an_instance_that_listens_a_moment_after_it_is_ready_is_waited_for() -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        async with relaying(Backend("A", late.getsockname())) as relay:
            asking = asyncio.create_task(asked_once(relay))
            await asyncio.wait([asking], timeout=0.1)
            assert not asking.done()
            server = await asyncio.start_server(named("a"), sock=late)
            assert await asking == "a"
            server.close()


async def test_each_side_may_finish_before_the_other() -> None:
    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()  # to the client's end
        writer.write(hashlib.sha256(data).digest())
        await writer.drain()

    sent = os.urandom(3 << 20)
    async with serving(counting) as address, relaying(Backend("A", address)) as relay:
        client = await Client.of(relay)
        client.writer.write(sent)
        client.writer.write_eof()
        assert await client.reader.read() == hashlib.sha256(sent).digest()
        client.close()


async def test_what_the_instance_wrote_before_it_closed_arrives() -> None:
    written = os.urandom(8 << 20)

    async def writing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(written)
        await writer.drain()

    async with serving(writing) as address, relaying(Backend("A", address)) as relay:
        client = await Client.of(relay)
        await asyncio.sleep(0.05)  # a reader that is slow: the instance has closed by now, or waits for us
        received = bytearray()
        while data := await client.reader.read(1 << 16):
            received += data
        assert bytes(received) == written
        client.close()


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"too large\n")
        writer.write_eof()
        await asyncio.sleep(0.05)
        writer.transport.abort()  # with unread data: the system resets what the client goes on to send

    async with serving(refusing) as address, relaying(Backend("A", address)) as relay:
        client = await Client.of(relay)
        for _ in range(200):
            client.writer.write(bytes(1 << 16))
            await asyncio.sleep(0.001)
        await client.writer.drain()
        assert await client.reader.read() == b"too large\n"
        assert len(relay._ends) == 1
        client.close()
        await until(lambda: not relay._ends)


async def test_a_broken_connection_is_broken_for_the_other_side_too() -> None:
    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async with serving(breaking) as address, relaying(Backend("A", address)) as relay:
        client = await Client.of(relay)
        with pytest.raises(ConnectionResetError):
            assert await client.ask()
        client.close()
        await until(lambda: not relay._ends)


async def drain(client: socket.socket, received: list[int]) -> None:
    while True:
        received.append(len(await asyncio.get_running_loop().sock_recv(client, 1 << 16)))


async def test_what_was_taken_before_a_break_is_delivered() -> None:
    """The instance breaks off while its client reads slowly: what the relay had taken comes, and then the break."""
    taken = asyncio.Event()

    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(bytes(1 << 20))
        await taken.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async with serving(breaking) as address, relaying(Backend("A", address)) as relay:
        with socket.create_connection(("127.0.0.1", relay.port)) as client:
            await until(lambda: len(relay._ends) == 2)
            take_much(relay)
            client.sendall(b"?\n")
            await until(lambda: held(relay) > 1 << 18)
            taken.set()
            await until(lambda: len(relay._ends) == 1)
            expected = held(relay)
            client.settimeout(0)
            received: list[int] = []
            with pytest.raises(ConnectionResetError):
                await drain(client, received)
            assert sum(received) >= expected > 1 << 18
        await until(lambda: not relay._ends)


def take_much(relay: Relay) -> None:
    """Let the system take little, and the relay the rest."""
    for end in relay._ends:
        end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        end.transport.set_write_buffer_limits(high=1 << 22)


def held(relay: Relay) -> int:
    return max(end.transport.get_write_buffer_size() for end in relay._ends)


async def test_a_client_that_vanishes_frees_the_instance() -> None:
    gone = asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()

    async with serving(waiting) as address, relaying(Backend("A", address)) as relay:
        client = await Client.of(relay)
        await until(lambda: len(relay._ends) == 2)
        client.writer.transport.abort()
        async with asyncio.timeout(5):
            await gone.wait()
        await until(lambda: not relay._ends)
        await until(lambda: not relay._rotation._open)


@pytest.mark.parametrize("stuck", ["client", "instance"])
async def test_a_side_that_takes_nothing_holds_up_the_other_instead_of_growing_memory(stuck: str) -> None:
    written = 0

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            written += 1 << 16

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (pour(writer) if stuck == "client" else asyncio.Event().wait())

    async with relaying() as relay, serving(serve) as address:
        relay.set_backends([Backend("A", address)])
        client = await Client.of(relay)
        pouring = asyncio.create_task(pour(client.writer) if stuck == "instance" else asyncio.Event().wait())
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.3)
        assert 0 < written < 32 << 20  # the system's buffers, and a few hundred KiB of ours
        assert held(relay) < 1 << 20
        pouring.cancel()
        client.writer.transport.abort()


async def test_a_side_that_takes_nothing_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance has finished, the client doesn't take the rest of it."""
    monkeypatch.setattr(relay_module, "_LINGER_SECONDS", 0.1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(bytes(1 << 20))
        await writer.drain()

    async with serving(serve) as address, relaying(Backend("A", address)) as relay:
        with socket.create_connection(("127.0.0.1", relay.port)) as client:
            await until(lambda: len(relay._ends) == 2)
            take_much(relay)
            client.sendall(b"?\n")
            client.shutdown(socket.SHUT_WR)
            await until(lambda: any(end.transport.is_closing() for end in relay._ends))
            await until(lambda: not relay._ends)


async def test_hundreds_of_connections_at_once() -> None:
    async with serving(echo) as a, serving(echo) as b, relaying(Backend("A", a), Backend("B", b)) as relay:
        async with asyncio.TaskGroup() as tasks:
            opened = [tasks.create_task(Client.of(relay)) for _ in range(200)]
        clients = [task.result() for task in opened]
        for number, client in enumerate(clients):
            client.writer.write(b"%d\n" % number)
        lines = [await client.reader.readline() for client in clients]
        assert lines == [b"%d\n" % number for number in range(200)]
        assert relay._rotation._open == {"A": 100, "B": 100}
        for client in clients:
            client.close()


async def test_a_port_in_use_is_said_at_once() -> None:
    async with relaying() as relay:
        with pytest.raises(RoleHostError, match=f"can't listen on 127.0.0.1 port {relay.port}: Address already in use"):
            Relay("127.0.0.1", relay.port)
        assert relay.address == f"127.0.0.1:{relay.port}"


async def test_a_closed_port_refuses_while_connections_go_on() -> None:
    async with serving(named("a")) as a, relaying(Backend("A", a)) as relay:
        client = await Client.of(relay)
        assert await client.ask() == "a"
        relay.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await Client.of(relay)
        assert await client.ask() == "a"
        unused = asyncio.create_task(relay.unused())
        await asyncio.sleep(0)
        assert not unused.done()
        client.close()
        async with asyncio.timeout(5):
            await unused


def test_rotation_takes_turns_among_equals() -> None:
    rotation = Rotation()
    backends = [Backend(name, ("127.0.0.1", 1)) for name in "CAB"]
    rotation.set(backends)
    entered = [rotation.enter() for _ in range(6)]
    assert [each.instance for each in entered if each] == ["A", "B", "C", "A", "B", "C"]
    for each in entered:
        if each is not None and each.instance == "B":
            rotation.leave(each)
    entered = [rotation.enter() for _ in range(3)]
    assert [each.instance for each in entered if each] == ["B", "B", "C"]
    assert rotation.enter(but=backends) is None
