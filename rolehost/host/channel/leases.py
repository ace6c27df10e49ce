"""The status leases that a role instance's clients hold: what they say together, and until when."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from rolehost import clock
from rolehost.host.channel.wire import BUSY, FOREVER, RECYCLE, STARTED, STOPPED, CurrentState

# Several clients may hold a lease each, as the processes of one instance; the first of these that one says counts.
_GRAVEST_FIRST = (RECYCLE, STOPPED, BUSY, STARTED)
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:(\.\d{1,6})\d*)?(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True, slots=True)
class _Lease:
    status: str
    detail: str
    ends: float | None


class StatusLeases:
    """What the clients of a runtime channel say of their instance. Used on the loop.

    A client's newest lease replaces its own; a release, or the end of a lease's time, restores what the others say.
    The lease of a client that sends heartbeats stands until it says something else: its silence is noticed elsewhere.

    Args:
        on_change: called when the status, its detail or the incarnation is another, also because a lease ran out.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._leases: dict[str, _Lease] = {}
        self._incarnation = 0
        self._ever_held = False
        self._waiting: asyncio.Task[None] | None = None

    def note(self, state: CurrentState) -> None:
        """Take over what a client has sent."""
        before = self._said()
        self._drop_ended()
        if state.status is None:
            self._leases.pop(state.client_id, None)
        else:
            self._ever_held = True
            self._incarnation = max(self._incarnation, state.incarnation)
            seconds = None if state.heartbeat else lifetime(state)
            ends = None if seconds is None else clock.monotonic() + seconds
            self._leases[state.client_id] = _Lease(state.status, state.detail, ends)
        self._wait_for_the_next_end()
        if self._said() != before:
            self._on_change()

    def clear(self) -> None:
        """Another life begins: nobody holds a lease. `on_change` isn't called."""
        self._leases.clear()
        self._incarnation = 0
        self._ever_held = False
        self._wait_for_the_next_end()

    @property
    def status(self) -> str | None:
        """`Started`, `Busy`, `Recycle` or `Stopped`; None: nobody holds a lease."""
        return found.status if (found := self._gravest()) else None

    @property
    def detail(self) -> str:
        """A sentence of the client whose status counts; empty: it said none."""
        return found.detail if (found := self._gravest()) else ""

    @property
    def incarnation(self) -> int:
        """The newest that a client took, in this life; 0: none."""
        return self._incarnation

    @property
    def ever_held(self) -> bool:
        """Whether a client has taken a lease in this life."""
        return self._ever_held

    def _gravest(self) -> _Lease | None:
        now = clock.monotonic()
        held = [lease for lease in self._leases.values() if lease.ends is None or lease.ends > now]
        return min(held, key=lambda lease: _GRAVEST_FIRST.index(lease.status), default=None)

    def _said(self) -> tuple[str | None, str, int]:
        return self.status, self.detail, self._incarnation

    def _drop_ended(self) -> None:
        now = clock.monotonic()
        self._leases = {client: each for client, each in self._leases.items() if each.ends is None or each.ends > now}

    def _wait_for_the_next_end(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        ends = [lease.ends for lease in self._leases.values() if lease.ends is not None]
        if ends:
            self._waiting = asyncio.create_task(self._until(min(ends)))

    async def _until(self, end: float) -> None:
        while (left := end - clock.monotonic()) > 0:
            await clock.sleep(left)
        self._waiting = None
        self._drop_ended()
        self._wait_for_the_next_end()
        self._on_change()


def lifetime(state: CurrentState) -> float | None:
    """How many seconds from now a client's lease lasts; None: for ever.

    A client of ours says the seconds, which no step of the clock disturbs; others say the moment. One that can't be
    read is taken for ever: the lease then ends by a release, or with the life.
    """
    if state.seconds is not None:
        return state.seconds
    found = _MOMENT.fullmatch(state.expiration.strip())
    if state.expiration == FOREVER or found is None or found[1].startswith("9999"):
        return None
    date, time, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{fraction or ''}{zone or 'Z'}")
    except ValueError:
        return None
    return (moment.astimezone(UTC) - clock.now()).total_seconds()
