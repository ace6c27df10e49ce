"""The limits of local resources: the platform's own can't be had everywhere, so the host looks, and acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rolehost import clock
from rolehost.processes.disk_usage import disk_usage
from rolehost.service_model import LocalStorage
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.host.instance.plan import InstancePlan

MEGABYTE = 1 << 20
_LOOK_EVERY = 1.0
_PATIENCE = 5.0


class Overflow(NamedTuple):
    """A local resource beyond its limit.

    Args:
        name: the resource.
        used: bytes that are allocated in it.
        limit: bytes that it may take.
    """

    name: str
    used: int
    limit: int

    def __str__(self) -> str:
        """One sentence for a person."""
        limit = f"{self.limit / MEGABYTE:g} MB"
        return f'the local resource "{self.name}" is over its limit: {self.used / MEGABYTE:.1f} MB of {limit}'


class QuotaWatch:
    """Looks at the sizes of an instance's local resources, about every second.

    A resource that is over its limit for five seconds is reported: so long may the role make room itself. One that is
    not cleaned, and over its limit from the start on, is told once, and reported when it grows further.

    Args:
        plan: the instance, prepared.
    """

    def __init__(self, plan: InstancePlan) -> None:
        self._plan = plan
        self._allowed: dict[str, int] = {}
        self._over_since: dict[str, float] = {}

    async def over(self) -> Overflow:
        """Return once a resource is beyond its limit."""
        while True:
            for storage in self._plan.storages.values():
                if overflow := await self._look(storage):
                    return overflow
            await clock.sleep(_LOOK_EVERY)

    async def _look(self, storage: LocalStorage) -> Overflow | None:
        limit = storage.size_in_mb * MEGABYTE
        used = (await disk_usage(self._plan.data.resource(self._plan.instance_id, storage.name))).total()
        if used <= self._allowance(storage, limit, used):
            self._over_since.pop(storage.name, None)
            return None
        since = self._over_since.setdefault(storage.name, clock.monotonic())
        return Overflow(storage.name, used, limit) if clock.monotonic() - since >= _PATIENCE else None

    def _allowance(self, storage: LocalStorage, limit: int, used: int) -> int:
        """The limit, or what a resource that is kept had at the start; as it shrinks, that does, too."""
        before = self._allowed.get(storage.name)
        if before is None:
            before = limit if storage.clean_on_role_recycle else max(limit, used)
            if before > limit:
                overflow = Overflow(storage.name, used, limit)
                emit("resource.over_at_start", instance=self._plan.instance_id, reason=str(overflow))
        self._allowed[storage.name] = max(limit, min(before, used))
        return before
