"""The control socket: requests, clients that misbehave, paths."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import NoServiceError, RoleHostError
from rolehost.host.fabric.control import SOCKET, Say, ask, serving


async def echo(request: Mapping[str, Any], say: Say) -> None:
    for number in range(request["times"]):
        say({"number": number, "text": request["text"]})


async def answers(data: Path, **request: Any) -> list[dict[str, Any]]:
    return [line async for line in ask(data, request)]


@pytest.mark.parametrize("folder", ["short", "long" * 40])
async def test_a_request_is_answered_line_by_line(tmp_path: Path, folder: str) -> None:
    data = tmp_path / folder
    data.mkdir()
    async with serving(data, echo):
        assert stat.S_IMODE((data / SOCKET).stat().st_mode) == 0o600
        told = await answers(data, times=2, text="\u00e4\n")
        assert told == [{"number": 0, "text": "\u00e4\n"}, {"number": 1, "text": "\u00e4\n"}]
    with pytest.raises(NoServiceError, match="no service runs on the data directory"):
        await answers(data, times=1, text="")


async def test_a_dead_services_socket_is_no_service_and_no_hindrance(tmp_path: Path) -> None:
    async with serving(tmp_path, echo):
        os.link(tmp_path / SOCKET, tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / SOCKET)
    with pytest.raises(NoServiceError):
        await answers(tmp_path, times=1, text="")
    async with serving(tmp_path, echo):
        assert len(await answers(tmp_path, times=1, text="")) == 1


@pytest.mark.parametrize("line", [b"", b"no json\n", b"[1]\n", b"x" * (2 << 20) + b"\n"])
async def test_what_is_no_request_is_hung_up_on(tmp_path: Path, line: bytes) -> None:
    async with serving(tmp_path, echo):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET))
        writer.write(line)
        if not line:
            writer.write_eof()
        async with asyncio.timeout(10):
            with suppress(ConnectionError):  # it may hang up on what it hasn't read
                assert await reader.read() == b""
        writer.close()
        assert len(await answers(tmp_path, times=3, text="")) == 3


async def test_who_does_not_read_is_cut_off_and_nobody_waits_for_it(tmp_path: Path) -> None:
    cut_off = asyncio.Event()

    async def flood(request: Mapping[str, Any], say: Say) -> None:
        if request["do"] == "flood":
            try:
                while True:
                    say({"text": "x" * (1 << 20)})
                    await asyncio.sleep(0)
            finally:
                cut_off.set()
        say({"text": "done"})

    async with serving(tmp_path, flood):
        _, writer = await asyncio.open_unix_connection(str(tmp_path / SOCKET), limit=1)
        writer.write(b'{"do": "flood"}\n')
        async with asyncio.timeout(20):
            await cut_off.wait()
        assert await answers(tmp_path, do="other") == [{"text": "done"}]
        writer.close()


async def test_a_client_that_goes_ends_its_request(tmp_path: Path) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: Mapping[str, Any], say: Say) -> None:
        say({})
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(tmp_path, wait):
        client = asyncio.create_task(answers(tmp_path, do="wait"))
        await begun.wait()
        client.cancel()
        async with asyncio.timeout(10):
            await ended.wait()


async def test_who_waits_at_the_end_is_hung_up_on_and_nothing_is_complained_of(tmp_path: Path) -> None:
    begun, complaints = asyncio.Event(), list[dict[str, Any]]()

    async def wait(_: Mapping[str, Any], say: Say) -> None:
        say({})
        begun.set()
        await asyncio.Event().wait()

    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    async with serving(tmp_path, wait):
        client = asyncio.create_task(answers(tmp_path, do="wait"))
        await begun.wait()
    async with asyncio.timeout(10):
        assert await client == [{}]
    assert complaints == []


async def test_a_socket_that_can_not_be_made_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RoleHostError, match="can't be made: No such file or directory"):
        async with serving(tmp_path / "away", echo):
            pass
