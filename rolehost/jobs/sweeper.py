"""Who sweeps: one instance at a time, by a leased row. The lease only saves work: two sweepers do no harm."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import ConflictError, StoreError
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.jobs.recovery import Recovery
    from rolehost.stores import Table

TABLE = "leases"
KEY = "recovery"
INTERVAL = 30.0
PATIENCE = 1.5
"""A sweeper is gone when its row stood still for so many intervals, on the observer's own clock."""


class Sweeper:
    """Sweeps at intervals while it holds the row.

    Args:
        recovery: what a pass does.
        table: where the row is.
        holder: who we are, for people to read.
        interval: seconds from one pass to the next.
    """

    def __init__(self, recovery: Recovery, table: Table, holder: str, *, interval: float = INTERVAL) -> None:
        self._recovery = recovery
        self._table = table
        self._holder = holder
        self._interval = interval
        self._version: str | None = None
        self._other: tuple[str, float] | None = None

    async def run(self) -> None:
        """Sweep until cancelled; then let another begin at once."""
        try:
            await clock.sleep(random.random() * min(self._interval, 1.0))  # noqa: S311 - spreads instances, no secret
            while True:
                await self._once()
                await clock.sleep(self._interval * (0.9 + 0.2 * random.random()))  # noqa: S311 - the same
        finally:
            if self._version is not None:
                with suppress(StoreError, asyncio.CancelledError):
                    await asyncio.shield(self._table.delete(KEY, self._version))

    async def _once(self) -> None:
        try:
            if await self._leads():
                await self._recovery.sweep()
        except StoreError as error:
            emit("store.unavailable", what="recovery", why=str(error))
        except Exception as error:  # noqa: BLE001 - a row that can't be read must not end recovery for all the others
            emit("recovery.failed", why=repr(error))

    async def _leads(self) -> bool:
        """Take the row, or keep it; each pass writes it, so that it moves as long as we live."""
        try:
            if self._version is not None:
                self._version = await self._table.write(KEY, self._version, self._facts())
                return True
            row = await self._table.read(KEY)
            if row is None:
                self._version = await self._table.insert(KEY, self._facts())
                return True
            if not self._stood_still(row.version):
                return False
            self._version = await self._table.write(KEY, row.version, self._facts())
        except ConflictError:
            self._version = None
            return False
        return True

    def _stood_still(self, version: str) -> bool:
        now = clock.monotonic()
        if self._other is None or self._other[0] != version:
            self._other = version, now
        return now - self._other[1] >= PATIENCE * self._interval

    def _facts(self) -> dict[str, str]:
        return {"holder": self._holder, "swept_at": clock.iso(clock.now())}
