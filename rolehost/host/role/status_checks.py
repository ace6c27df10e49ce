"""`status_check`, raised at its interval in the role process."""

from __future__ import annotations

from rolehost import clock
from rolehost.environment import RoleEnvironment, RoleInstanceStatus
from rolehost.host.channel.client import RuntimeClient
from rolehost.host.channel.wire import BUSY
from rolehost.user_code import UserCode

_LEASE = "check"
# The next check's handlers take a moment before they can say busy again.
_INTERVALS_HELD = 1.5


class StatusChecks:
    """Raises `status_check`, and keeps the instance busy from one check to the next where a handler says so.

    Args:
        client: tells the host.
        environment: whose event it is.
        user: calls the handlers.
    """

    def __init__(self, client: RuntimeClient, environment: RoleEnvironment, user: UserCode) -> None:
        self._client = client
        self._environment = environment
        self._user = user
        self._busy = False

    async def repeat(self) -> None:
        """Check again and again, at the interval that the newest goal names, until cancelled."""
        while True:
            goal = self._client.goal
            seconds = goal.status_check_seconds if goal else 15.0
            await clock.sleep(seconds)
            await self._check(seconds)

    async def _check(self, seconds: float) -> None:
        if not self._environment.status_check and not self._busy:
            return
        status = RoleInstanceStatus.READY if self._client.takes_requests else RoleInstanceStatus.BUSY
        was_busy, self._busy = self._busy, await self._user.call(self._environment.raise_status_check, status)
        if self._busy:
            await self._client.hold(_LEASE, BUSY, seconds * _INTERVALS_HELD)
        elif was_busy:
            await self._client.release(_LEASE)
