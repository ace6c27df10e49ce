"""The host's end of the runtime channel: goal states down, status leases up, by Unix sockets in a private directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Self

from rolehost.environment import Snapshot
from rolehost.errors import WireError
from rolehost.host.wire import (
    STARTED,
    STOPPED,
    CurrentState,
    GoalState,
    environment_document,
    goal_frame,
    read_current_state,
    version_document,
)
from rolehost.telemetry import emit

# A socket's path may hold 108 bytes; its name here is short.
_LONGEST_DIRECTORY = 90
_LARGEST_STATE = 1 << 20


class RuntimeChannel:
    """Serves one role instance, through all its lives.

    Args:
        name: distinguishes the instance's directory; one that an earlier owner left under the same name is removed.
        on_state: called with each current state that a client sends.
        heartbeat: seconds, told to the role.
    """

    def __init__(self, name: str, on_state: Callable[[CurrentState], None], heartbeat: float) -> None:
        self._name = name
        self._on_state = on_state
        self._heartbeat = heartbeat
        self._directory = Path()
        self._incarnation = 0
        self._born = 0
        self._goal: GoalState | None = None
        self._listeners: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []

    @property
    def endpoint(self) -> str:
        """The path for `WaRuntimeEndpoint`."""
        return str(self._directory / "v")

    async def __aenter__(self) -> Self:
        self._directory = private_directory(self._name)
        for name, serve in (("v", self._serve_version), ("g", self._serve_goals), ("s", self._serve_states)):
            path = self._directory / name
            self._servers.append(await asyncio.start_unix_server(serve, path, limit=_LARGEST_STATE))
            path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for listener in tuple(self._listeners):
            listener.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def expect_started(self, snapshot: Snapshot) -> None:
        """The next life's goal: a fresh incarnation, with what the role environment holds."""
        document = self._directory / f"{snapshot.current_role_instance.id}.{self._incarnation + 1}.xml"
        descriptor = os.open(document, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(environment_document(snapshot))
        if self._goal is not None:
            Path(self._goal.environment_path).unlink(missing_ok=True)
        self._born = self._incarnation + 1
        self._announce(STARTED, str(document), None)

    def expect_stopped(self, seconds: float) -> None:
        """Ask the role to stop, within so many seconds; asked again, the newer deadline counts."""
        if self._goal is not None:
            self._announce(STOPPED, self._goal.environment_path, seconds)

    def _announce(self, expected: str, document: str, seconds: float | None) -> None:
        self._incarnation += 1
        states = str(self._directory / "s")
        self._goal = GoalState(self._incarnation, expected, document, states, seconds, self._heartbeat)
        frame = goal_frame(self._goal)
        for listener in self._listeners:
            listener.write(frame)  # one piece: some clients take one read for one document

    async def _serve_version(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(version_document(str(self._directory / "g")))
        writer.write_eof()
        await _until_closed(reader, writer)

    async def _serve_goals(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._listeners.add(writer)
        if self._goal is not None:
            writer.write(goal_frame(self._goal))
        try:
            await _until_closed(reader, writer)
        finally:
            self._listeners.discard(writer)

    async def _serve_states(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            document = await reader.read(_LARGEST_STATE)
            while more := await reader.read(_LARGEST_STATE):
                document += more
                if len(document) > _LARGEST_STATE:
                    raise WireError("the message is too large")  # noqa: TRY301 - one place reports what can't be read
            state = read_current_state(document)
            # A message of an earlier life may have waited in its socket until this one began.
            if state.status is None or state.incarnation >= self._born:
                self._on_state(state)
        except (WireError, ConnectionError) as error:
            emit("channel.message_refused", reason=str(error))
        finally:
            writer.close()  # what a client that waits for it takes as our having heard


async def _until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(4096):
            pass
    except ConnectionError:
        pass
    finally:
        writer.close()


def private_directory(name: str) -> Path:
    """A fresh directory that only we may enter, short enough for sockets; leftovers under this name are removed."""
    parent = Path(tempfile.gettempdir())
    if len(os.fsencode(parent)) + len(name) + 11 > _LONGEST_DIRECTORY:
        parent = Path("/tmp")  # noqa: S108 - mkdtemp makes an unguessable private directory in it
    for left in parent.glob(f"{name}-*"):
        if left.is_dir() and not left.is_symlink() and left.stat().st_uid == os.geteuid():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
