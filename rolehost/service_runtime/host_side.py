"""What a role environment asks of the host behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rolehost.errors import RoleEnvironmentError
from rolehost.service_runtime.topology import RoleInstanceStatus


class EnvironmentHost(Protocol):
    """The host, as the role environment of a process sees it; called from any thread.

    Each raises RoleEnvironmentError where the host can't be told.
    """

    def request_recycle(self) -> None:
        """Have the instance stopped in order and started again."""

    def set_status(self, status: RoleInstanceStatus, seconds: float) -> None:
        """Say of the instance that it is so, for so many seconds."""

    def clear_status(self) -> None:
        """Take back what `set_status` said."""

    def report_trouble(self, reason: str, seconds: float) -> None:
        """Say that the instance is busy for a reason, for so many seconds; without one, that it is no longer."""


class TestingHost:
    """Stands in for the host in a role's own tests; no time passes for it.

    Args:
        on_recycle: called by `request_recycle`.
    """

    __test__ = False  # for pytest: this class has no tests in it

    def __init__(self, on_recycle: Callable[[], None] | None) -> None:
        self._on_recycle = on_recycle
        self.status = RoleInstanceStatus.READY
        self.trouble = ""

    def request_recycle(self) -> None:
        """Call `on_recycle`."""
        if self._on_recycle is None:
            raise RoleEnvironmentError("the instance can't be recycled: no host is connected")
        self._on_recycle()

    def set_status(self, status: RoleInstanceStatus, seconds: float) -> None:
        """Note the status."""
        self.status = status if seconds > 0 else RoleInstanceStatus.READY

    def clear_status(self) -> None:
        """Be ready again."""
        self.status = RoleInstanceStatus.READY

    def report_trouble(self, reason: str, seconds: float) -> None:
        """Note the reason."""
        self.trouble = reason if seconds > 0 else ""
