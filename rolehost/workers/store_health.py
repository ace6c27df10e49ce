"""What a worker knows of its stores: whether they answer, refuse it, or ask for patience; and who is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from rolehost import clock
from rolehost.errors import RoleEnvironmentError, StoreError, StoreForbiddenError, StoreThrottledError
from rolehost.telemetry import emit

if TYPE_CHECKING:
    from rolehost.environment import RoleEnvironment
    from rolehost.stores import Table

LOOK_EVERY = 10.0
SLOW = 2.0
"""A look at a row that takes so many seconds is told: everything takes longer then."""
SILENT = 10.0
"""One error is a hiccup; stores that gave no answer for so many seconds are told."""
REMEMBERED = 60.0
"""A refusal is believed for so long: retries come more often than that."""
ALERTED_AGAIN = 600.0
"""A store that refuses us is named once; again only if it had let us in for so long."""
MOST_PATIENCE = 300.0
"""What a store asks for is granted up to so many seconds: a mistake of its must not stop the worker for a day."""
ASKED_AGAIN = frozenset({"receive", "look"})
"""The calls that are made again and again, so that a later answer takes back what was said of them."""
PROBE_KEY = "health"


class StoreHealth:
    """Hears of every error of the stores, and sums them up; one for a worker."""

    def __init__(self) -> None:
        self._silent: dict[str, tuple[float, str]] = {}
        self._refused: dict[str, float] = {}
        self._slow = 0.0
        self._patient_until = 0.0

    def failed(self, what: str, error: Exception, **facts: str) -> None:
        """A call failed: tell it, but a refusal only once.

        Args:
            what: the call, for people; those of `ASKED_AGAIN` are `answered` later.
            error: what it raised.
            facts: what it was about.
        """
        now = clock.monotonic()
        if isinstance(error, StoreThrottledError) and error.retry_after is not None:
            self._patient_until = max(self._patient_until, now + min(error.retry_after, MOST_PATIENCE))
        if what in ASKED_AGAIN:
            since, _ = self._silent.get(what, (now, ""))
            self._silent[what] = since, str(error) or "no answer"
        if isinstance(error, StoreForbiddenError):
            self._alert(error.store or what, str(error), now)
        else:
            emit("store.unavailable", what=what, why=str(error) or "no answer", **facts)

    def _alert(self, store: str, why: str, now: float) -> None:
        """Say once that a store refuses us, however often it is asked."""
        known, self._refused[store] = self._refused.get(store), now
        if known is None or now - known > ALERTED_AGAIN:
            emit("store.forbidden", store=store, why=why)

    def answered(self, what: str, seconds: float | None = None) -> None:
        """A call succeeded; `seconds` is how long it took, of one that is no wait."""
        self._silent.pop(what, None)
        if seconds is not None:
            self._slow = seconds if seconds >= SLOW else 0.0

    async def patience(self) -> None:
        """Wait for as long as a store asked for."""
        while (left := self._patient_until - clock.monotonic()) > 0:
            await clock.sleep(left)

    @property
    def trouble(self) -> str:
        """What is wrong with the stores, in a sentence; empty if nothing is."""
        now = clock.monotonic()
        refused = sorted(store for store, at in self._refused.items() if now - at < REMEMBERED)
        if refused:
            return f"degraded: access is refused by {', '.join(refused)}"
        silent = [(since, why) for since, why in self._silent.values() if now - since >= SILENT]
        if silent:
            since, why = min(silent)
            began = clock.iso(clock.now() - timedelta(seconds=now - since))
            return f"degraded: the stores have not answered since {began}: {why}"
        return f"degraded: the stores are slow: a look at a row took {self._slow:.1f} s" if self._slow else ""

    async def watch(self, table: Table, environment: RoleEnvironment) -> NoReturn:
        """Look at a row now and then, and say through the instance's status what is wrong.

        Args:
            table: any; the row needn't exist.
            environment: whose instance is busy while the stores are in trouble.
        """
        told = ""
        while True:
            await self._look(table)
            if told != (told := self.trouble) or told:
                try:
                    environment.report_trouble(told, 3 * (LOOK_EVERY + SLOW))
                except RoleEnvironmentError:  # no host, nobody to tell
                    told = ""
            await clock.sleep(LOOK_EVERY)

    async def _look(self, table: Table) -> None:
        since = clock.monotonic()
        try:
            async with asyncio.timeout(2 * LOOK_EVERY):
                await table.read(PROBE_KEY)
        except (StoreError, TimeoutError) as error:
            self.failed("look", error)
        else:
            self.answered("look", clock.monotonic() - since)
