"""The role's end of the runtime channel."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

from rolehost import clock
from rolehost.errors import RoleEnvironmentError, WireError
from rolehost.host.channel.wire import (
    BUSY,
    FOREVER,
    RECYCLE,
    STARTED,
    STOPPED,
    CurrentState,
    GoalState,
    current_state,
    read_goal,
    read_version,
)
from rolehost.telemetry import emit

_LARGEST_GOAL = 1 << 20
_ANSWER_SECONDS = 10.0


class RuntimeClient:
    """A connection to the host. `next_goal()` says what it expects, `report()` how the role is.

    Beside the role's own status, which is renewed as its sign of life, further leases can be taken by name: each is a
    client of its own to the host, so that its end restores what the role itself says.

    Args:
        reader: the goal-state stream.
        writer: its other direction, kept open.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._client_id = secrets.token_hex(16)
        self._goal: GoalState | None = None
        self._status: tuple[str, str] | None = None
        self._leases: dict[str, tuple[str, float]] = {}
        self._sending = asyncio.Lock()

    @classmethod
    async def connect(cls, endpoint: str) -> RuntimeClient:
        """Ask the runtime endpoint for its goal-state stream and open it.

        Args:
            endpoint: the value of `WaRuntimeEndpoint`.

        Raises:
            RoleEnvironmentError: nobody answers there, or not in our protocol.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(endpoint)
                goal_path = read_version(await reader.read())
                writer.close()
                return cls(*await asyncio.open_unix_connection(goal_path))
        except (OSError, WireError) as error:
            raise RoleEnvironmentError(f"the runtime endpoint {endpoint} doesn't answer: {error}") from error

    async def next_goal(self) -> GoalState | None:
        """The host's next goal; None: the host is gone. The first is taken as it is, see `take` for the others."""
        try:
            while (header := await self._reader.readline()).strip() == b"":
                if not header:
                    return None
            length = int(header, 16)
            if length > _LARGEST_GOAL:
                return None
            goal = read_goal(await self._reader.readexactly(length))
        except (ConnectionError, asyncio.IncompleteReadError, ValueError, WireError):
            return None
        if self._goal is None:
            self._goal = goal
        return goal

    def take(self, goal: GoalState) -> None:
        """The role has this goal from now on: what it reports is about its incarnation."""
        self._goal = goal

    @property
    def goal(self) -> GoalState | None:
        """The one that the role has; None: none yet."""
        return self._goal

    @property
    def incarnation(self) -> int:
        """That goal's; 0: none yet."""
        return self._goal.incarnation if self._goal else 0

    @property
    def takes_requests(self) -> bool:
        """Whether all that is reported comes to `Started`."""
        now = clock.monotonic()
        busy = any(status == BUSY and until > now for status, until in self._leases.values())
        return self._status is not None and self._status[0] == STARTED and not busy

    async def report(self, status: str, detail: str = "") -> bool:
        """Take the status lease with this status; the answer says whether the host has heard.

        A recycle that was asked for stands: after it only `Stopped` is reported.
        """
        if self._status is None or self._status[0] != RECYCLE or status == STOPPED:
            self._status = (status, detail)
        return await self.repeat()

    async def repeat(self) -> bool:
        """Report the last status again, for the incarnation that the role has now."""
        if self._goal is None or self._status is None:
            return False
        status, detail = self._status
        return await self._send(self._client_id, status, self._goal.heartbeat, detail, heartbeat=True)

    async def hold(self, name: str, status: str, seconds: float, detail: str = "") -> bool:
        """Take a further lease, for so many seconds; the answer says whether the host has heard."""
        self._leases[name] = (status, clock.monotonic() + seconds)
        return await self._send(f"{self._client_id}-{name}", status, seconds, detail)

    async def release(self, name: str) -> bool:
        """Give a further lease back."""
        self._leases.pop(name, None)
        return await self._send(f"{self._client_id}-{name}", None)

    async def heartbeat(self) -> None:
        """Renew the status lease, until cancelled."""
        while True:
            await clock.sleep(self._beat())
            await self.repeat()

    def _beat(self) -> float:
        return min(5.0, self._goal.heartbeat / 4) if self._goal else 1.0

    async def _send(
        self, client_id: str, status: str | None, seconds: float = 0.0, detail: str = "", *, heartbeat: bool = False
    ) -> bool:
        async with self._sending:
            if self._goal is None:
                return False
            state = CurrentState(
                client_id, status, self.incarnation, _moment(seconds), detail, heartbeat=heartbeat, seconds=seconds
            )
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await _deliver(self._goal.state_endpoint, current_state(state))
            except OSError as error:  # a timeout is one too
                emit("channel.report_lost", reason=repr(error))
                return False
            return True


def _moment(seconds: float) -> str:
    try:
        return clock.iso(clock.now() + timedelta(seconds=seconds))
    except OverflowError:
        return FOREVER


async def _deliver(endpoint: str, document: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(endpoint)
    try:
        writer.write(document)
        writer.write_eof()
        await reader.read()  # the host closes once it has read
    finally:
        writer.close()
