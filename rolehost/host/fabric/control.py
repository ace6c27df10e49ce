"""The control socket of a running service: `<data>/control.sock`, its owner's alone, JSON lines both ways.

A client writes one request and reads lines until the connection ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from rolehost.errors import NoServiceError, RoleHostError

SOCKET = "control.sock"
_LONGEST_ADDRESS = 100  # sun_path has 104 bytes on some systems, 108 on Linux, with the last one
_LONGEST_LINE = 1 << 20
_LONGEST_ANSWER = 64 << 20
_MOST_UNREAD = 32 << 20
_DESCRIPTORS = Path("/proc/self/fd")

Say: TypeAlias = "Callable[[Mapping[str, Any]], None]"
Answer: TypeAlias = "Callable[[Mapping[str, Any], Say], Awaitable[None]]"


@asynccontextmanager
async def serving(data: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer requests until the block ends.

    Args:
        data: the data directory; who calls this holds its lock, so that a socket there is a dead one's.
        answer: called with a request and with what sends a line; the connection ends when it returns.

    Raises:
        RoleHostError: the socket can't be made.
    """
    path = data / SOCKET
    connections: dict[asyncio.Task[None], asyncio.Task[Any] | None] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The streams write a traceback for a task of theirs that was cancelled: only one of ours ever is.
        task = asyncio.create_task(_serve(reader, writer, answer))
        connections[task] = asyncio.current_task()
        await asyncio.wait([task])
        del connections[task]
        if not task.cancelled():
            task.result()

    with _listening(path) as listening:
        server = await asyncio.start_unix_server(serve, sock=listening, limit=_LONGEST_LINE)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)
            theirs = [task for task in connections.values() if task is not None]
            for task in connections:
                task.cancel()
            await asyncio.gather(*theirs, return_exceptions=True)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    def say(line: Mapping[str, Any]) -> None:
        if writer.transport.get_write_buffer_size() > _MOST_UNREAD:
            writer.transport.abort()  # who reads so slowly must not fill our memory
        elif not writer.is_closing():
            writer.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    try:
        request = json.loads(await reader.readline() or b"null")
        if isinstance(request, dict):
            answering = asyncio.ensure_future(answer(request, say))
            gone = asyncio.ensure_future(reader.read(1))  # a client that has gone waits for nothing
            try:
                await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                if not answering.done():
                    answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering
            await writer.drain()
    except (ConnectionError, ValueError):
        pass  # nobody is left to answer, or none of ours
    finally:
        writer.close()


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening, _address(path) as address:
        try:
            path.unlink(missing_ok=True)
            listening.bind(address)
            path.chmod(0o600)  # before it listens: nobody can have connected
            listening.listen()
        except OSError as error:
            raise RoleHostError(f"{path} can't be made: {error.strerror}") from error
        listening.setblocking(False)  # noqa: FBT003 - the standard library's positional flag
        yield listening


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The socket's address; by a descriptor of its directory where the path is too long for one."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield str(path)
        return
    if not _DESCRIPTORS.is_dir():
        raise RoleHostError(f"{path} is too long for the address of a socket on this system")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(_DESCRIPTORS / str(directory) / path.name)
    finally:
        os.close(directory)


async def ask(data: Path, request: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Send a request to the service that runs on a data directory; its answers, line by line.

    Args:
        data: the data directory.
        request: what is wanted.

    Raises:
        NoServiceError: none runs there.
    """
    reader, writer = await _connected(data / SOCKET, data)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        while line := await reader.readline():
            if line.endswith(b"\n"):
                yield json.loads(line)
    except ConnectionError:
        return
    finally:
        writer.close()


async def _connected(path: Path, data: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        with _address(path) as address:
            return await asyncio.open_unix_connection(address, limit=_LONGEST_ANSWER)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        told = (
            f"no service runs on the data directory {data}: start one with `rolehost up`, or name its own with --data"
        )
        raise NoServiceError(told) from None
    except PermissionError:
        raise NoServiceError(f"the service on the data directory {data} belongs to another user") from None
