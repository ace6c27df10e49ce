"""What the role environment asks of the host, carried over the runtime channel from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any

from rolehost.environment import RoleInstanceStatus
from rolehost.errors import RoleEnvironmentError
from rolehost.host.channel.client import RuntimeClient
from rolehost.host.channel.wire import BUSY, STARTED

_LEASE = "status"
_TROUBLE = "trouble"
# Longer than the client itself waits for the host.
_ANSWER_SECONDS = 15.0


class HostConnection:
    """The host, as the role environment of a role process sees it.

    Args:
        client: tells the host. Belongs to the running loop.
        recycle: reports that the instance is to be recycled, for the reason of its argument.
        keep: holds a task until it is done.
    """

    def __init__(
        self,
        client: RuntimeClient,
        recycle: Callable[[str], Coroutine[Any, Any, bool]],
        keep: Callable[[Coroutine[Any, Any, bool]], object],
    ) -> None:
        self._client = client
        self._recycle = recycle
        self._keep = keep
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def request_recycle(self) -> None:
        """Have the host stop and start this instance."""
        self._ask(self._recycle("it was asked for"), "the instance can't be recycled")

    def set_status(self, status: RoleInstanceStatus, seconds: float) -> None:
        """Hold a lease with this status, beside what the role's life reports."""
        if seconds <= 0:
            self.clear_status()
            return
        word = STARTED if status is RoleInstanceStatus.READY else BUSY
        self._ask(self._client.hold(_LEASE, word, seconds), "the status can't be set")

    def clear_status(self) -> None:
        """Release that lease."""
        self._ask(self._client.release(_LEASE), "the status can't be cleared")

    def report_trouble(self, reason: str, seconds: float) -> None:
        """Hold a lease of its own with `Busy` and the reason, or release it."""
        trouble = self._client.hold(_TROUBLE, BUSY, seconds, reason) if reason else self._client.release(_TROUBLE)
        self._ask(trouble, "what is wrong can't be told")

    def _ask(self, work: Coroutine[Any, Any, bool], what: str) -> None:
        if threading.get_ident() == self._thread:  # what ships asks from the loop itself, which must not wait
            self._keep(work)
            return
        try:
            asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:  # the loop is over
            work.close()
            raise RoleEnvironmentError(f"{what}: the process is ending") from error
        try:
            heard = asked.result(_ANSWER_SECONDS)
        except (CancelledError, TimeoutError) as error:
            raise RoleEnvironmentError(f"{what}: the process is ending, or held up") from error
        if not heard:
            raise RoleEnvironmentError(f"{what}: the host doesn't answer")
