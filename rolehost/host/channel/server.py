"""The host's end of the runtime channel: goal states down, status leases up, by Unix sockets in a private directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Self, TypeAlias

from rolehost.environment import Snapshot
from rolehost.errors import WireError
from rolehost.host.channel.wire import (
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
_END_OF_STATE = b"</CurrentState>"
_CLOSING_SECONDS = 1.0
# A client may still be about to read the document of a goal that the next has already followed.
_DOCUMENTS_KEPT = 4
# The published Node client compares incarnations as text: all of them have as many digits.
_BEFORE_THE_FIRST = 1_000_000

_Serve: TypeAlias = "Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]"


class RuntimeChannel:
    """Serves one role instance, through all its lives.

    Args:
        name: distinguishes the instance's directory; one that an earlier owner left under the same name is removed.
        on_state: called with each current state that a client sends.
        heartbeat: seconds, told to the role.
        changing_seconds: told to the role, as the next.
        status_check_seconds: between two checks of the status.
    """

    def __init__(
        self,
        name: str,
        on_state: Callable[[CurrentState], None],
        heartbeat: float,
        *,
        changing_seconds: float = 30.0,
        status_check_seconds: float = 15.0,
    ) -> None:
        self._name = name
        self._on_state = on_state
        self._directory = Path()
        self._incarnation = _BEFORE_THE_FIRST
        self._born = 0
        self._goal: GoalState | None = None
        self._documents: list[Path] = []
        self._listeners: set[asyncio.StreamWriter] = set()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._servers: list[asyncio.Server] = []
        self._group: int | None = None
        self._times: dict[str, float] = {}
        self.set_times(heartbeat, changing_seconds=changing_seconds, status_check_seconds=status_check_seconds)

    @property
    def endpoint(self) -> str:
        """The path for `WaRuntimeEndpoint`."""
        return str(self._directory / "v")

    async def __aenter__(self) -> Self:
        self._directory = private_directory(self._name)
        for name, serve in (("v", self._serve_version), ("g", self._serve_goals), ("s", self._serve_states)):
            path = self._directory / name
            kept = partial(self._keep, serve)
            self._servers.append(await asyncio.start_unix_server(kept, path, limit=_LARGEST_STATE))
            path.chmod(0o600)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for writer in self._connections.values():
            writer.close()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_CLOSING_SECONDS)
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def connected(self) -> bool:
        """Whether somebody listens to the goals."""
        return bool(self._listeners)

    def share_with(self, group: int) -> None:
        """Let a group use the channel, from the next goal on: that of a program which runs as another user."""
        self._group = group
        os.chown(self._directory, -1, group)
        self._directory.chmod(0o710)
        for name in ("v", "g", "s"):
            os.chown(self._directory / name, -1, group)
            (self._directory / name).chmod(0o660)

    def set_times(self, heartbeat: float, *, changing_seconds: float, status_check_seconds: float) -> None:
        """Tell other times from the next goal on."""
        self._times = {
            "heartbeat": heartbeat,
            "changing_seconds": changing_seconds,
            "status_check_seconds": status_check_seconds,
        }

    def expect_started(self, snapshot: Snapshot, *, simultaneous: bool = False) -> int:
        """A fresh incarnation of what the role environment holds: a change, or the first of another life.

        It is a change where somebody listens that hasn't been told to stop.

        Args:
            snapshot: what it holds now.
            simultaneous: a change of the topology in it is told to all instances at once.

        Returns:
            The incarnation; who has taken it says so in its status lease.
        """
        changes = self.connected and self._goal is not None and self._goal.expected == STARTED
        if not changes:
            self._born = self._incarnation + 1
        document = self._directory / f"{snapshot.current_role_instance.id}.{self._incarnation + 1}.xml"
        descriptor = os.open(document, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if self._group is not None:
                os.fchown(descriptor, -1, self._group)
                os.fchmod(descriptor, 0o640)
            file.write(environment_document(snapshot))
        self._documents.append(document)
        for passed in self._documents[: -_DOCUMENTS_KEPT if changes else -1]:
            passed.unlink(missing_ok=True)
            self._documents.remove(passed)
        self._announce(STARTED, str(document), simultaneous=simultaneous)
        return self._incarnation

    def expect_stopped(self, seconds: float | None) -> None:
        """Ask the role to stop; asked again, the newer deadline counts.

        Args:
            seconds: within so many; None: however long it takes.
        """
        if self._goal is not None:
            self._announce(STOPPED, self._goal.environment_path, seconds)

    def _announce(
        self, expected: str, document: str, seconds: float | None = None, *, simultaneous: bool = False
    ) -> None:
        self._incarnation += 1
        states = str(self._directory / "s")
        self._goal = GoalState(
            self._incarnation, expected, document, states, seconds, simultaneous=simultaneous, **self._times
        )
        frame = goal_frame(self._goal)
        for listener in self._listeners:
            listener.write(frame)  # one piece: some clients take one read for one document

    async def _keep(self, serve: _Serve, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        self._connections[task] = writer
        try:
            await task
        finally:
            del self._connections[task]

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
            document = b""
            # Who doesn't close its direction has said all that it will say all the same.
            while not document.rstrip().endswith(_END_OF_STATE) and (more := await reader.read(_LARGEST_STATE)):
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
