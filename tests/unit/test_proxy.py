"""The tests' own proxy does to connections what it is told to do, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from support.jobs import until
from support.proxy import Proxy


@asynccontextmanager
async def an_echo() -> AsyncIterator[Proxy]:
    """A server that says everything again, behind a proxy."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def a_web_server(asked: list[str]) -> AsyncIterator[Proxy]:
    """A server that answers 200 to everything and remembers it, behind a proxy."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            asked.append(head.decode().splitlines()[0])
            length = [
                int(line[16:]) for line in head.decode().lower().splitlines() if line.startswith("content-length:")
            ]
            await reader.readexactly(sum(length))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal")

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    async with Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def a_client(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_bytes_pass_and_the_end_too() -> None:
    async with an_echo() as proxy, a_client(proxy) as (reader, writer):
        writer.write(b"a" * 300_000)
        writer.write_eof()
        assert await reader.read(-1) == b"a" * 300_000
        assert proxy.accepted == 1


async def test_latency_counts_in_each_direction() -> None:
    async with an_echo() as proxy, a_client(proxy) as (reader, writer):
        proxy.latency = 0.1
        began = time.monotonic()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert time.monotonic() - began >= 0.2


async def test_a_cut_resets_what_is_open_and_nothing_later() -> None:
    async with an_echo() as proxy:
        async with a_client(proxy) as (reader, writer):
            writer.write(b"hello")
            await reader.readexactly(5)
            assert proxy.connections == 1
            proxy.cut()
            with pytest.raises(ConnectionError):
                await reader.readexactly(1)
        async with a_client(proxy) as (reader, writer):
            writer.write(b"again")
            assert await reader.readexactly(5) == b"again"


async def test_what_is_half_open_stays_silent_until_it_thaws() -> None:
    async with an_echo() as proxy, a_client(proxy) as (reader, writer):
        proxy.freeze()
        async with a_client(proxy) as (other, speaks):
            for each in (writer, speaks):
                each.write(b"hello")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), 0.2)
            proxy.thaw()
            assert [await each.readexactly(5) for each in (reader, other)] == [b"hello"] * 2


async def test_while_it_is_down_every_connection_is_reset() -> None:
    async with an_echo() as proxy:
        proxy.down()
        async with a_client(proxy) as (reader, _):
            with pytest.raises(ConnectionError):
                await reader.readexactly(1)
        proxy.up()
        async with a_client(proxy) as (reader, writer):
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"


async def test_it_answers_in_the_servers_place_as_often_as_told() -> None:
    asked: list[str] = []
    async with a_web_server(asked) as proxy, httpx2.AsyncClient(base_url=f"http://{proxy.host}:{proxy.port}") as client:
        proxy.answer(503, {"Retry-After": "1"}, b"busy", matching="PUT", times=2)
        assert (await client.get("/first")).text == "real"
        for _ in range(2):
            answer = await client.put("/second", content=b"x" * 100_000)
            assert (answer.status_code, answer.headers["Retry-After"], answer.text) == (503, "1", "busy")
        assert (await client.put("/third", content=b"x" * 100_000)).text == "real"
    assert asked == ["GET /first HTTP/1.1", "PUT /third HTTP/1.1"]
    assert len(proxy.requests) == 4


async def test_an_answer_that_is_lost_belongs_to_a_request_that_was_carried_out() -> None:
    asked: list[str] = []
    async with a_web_server(asked) as proxy, httpx2.AsyncClient(base_url=f"http://{proxy.host}:{proxy.port}") as client:
        proxy.lose_answer(matching="POST")
        with pytest.raises(httpx2.TransportError):
            await client.post("/once", content=b"x")
        assert asked == ["POST /once HTTP/1.1"]
        assert (await client.post("/once", content=b"x")).text == "real"


async def test_nothing_stays_open_where_there_is_no_server() -> None:
    async with Proxy("127.0.0.1", 9) as proxy, a_client(proxy) as (reader, _):
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        await until(lambda: asyncio.sleep(0, result=proxy.connections == 0))
