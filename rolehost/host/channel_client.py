"""The role's end of the runtime channel."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

from rolehost import clock
from rolehost.errors import RoleEnvironmentError, WireError
from rolehost.host.wire import CurrentState, GoalState, current_state, read_goal, read_version
from rolehost.telemetry import emit

_LARGEST_GOAL = 1 << 20
_ANSWER_SECONDS = 10.0


class RuntimeClient:
    """A connection to the host. `goals()` follows what it expects, `report()` says how the role is.

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
        """The host's next goal; None: the host is gone."""
        try:
            while (header := await self._reader.readline()).strip() == b"":
                if not header:
                    return None
            length = int(header, 16)
            if length > _LARGEST_GOAL:
                return None
            self._goal = read_goal(await self._reader.readexactly(length))
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            return None
        return self._goal

    async def report(self, status: str, detail: str = "") -> bool:
        """Take the status lease with this status; the answer says whether the host has heard."""
        self._status = (status, detail)
        return await self._send()

    async def heartbeat(self) -> None:
        """Renew the status lease, until cancelled."""
        while True:
            await clock.sleep(self._beat())
            if self._status is not None:
                await self._send()

    def _beat(self) -> float:
        return min(5.0, self._goal.heartbeat / 4) if self._goal else 1.0

    async def _send(self) -> bool:
        async with self._sending:
            if self._goal is None or self._status is None:
                return False
            status, detail = self._status
            expiration = clock.now() + timedelta(seconds=self._goal.heartbeat)
            state = CurrentState(
                self._client_id, status, self._goal.incarnation, clock.iso(expiration), detail, heartbeat=True
            )
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await _deliver(self._goal.state_endpoint, current_state(state))
            except OSError as error:  # a timeout is one too
                emit("channel.report_lost", reason=repr(error))
                return False
            return True


async def _deliver(endpoint: str, document: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(endpoint)
    try:
        writer.write(document)
        writer.write_eof()
        await reader.read()  # the host closes once it has read
    finally:
        writer.close()
