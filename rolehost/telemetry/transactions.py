"""What this process asks of stores that bill each request, and what for.

Who asks says what for (`spent_on`); the engine that sends a request counts it here. A store that costs nothing counts
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from rolehost import clock

JOBS: Final = "jobs"
POLLING: Final = "polling"
HEARTBEATS: Final = "heartbeats"
SWEEPER: Final = "sweeper"
OTHER: Final = "other"
PURPOSES: Final = (JOBS, POLLING, HEARTBEATS, SWEEPER, OTHER)
IDLE: Final = (POLLING, HEARTBEATS, SWEEPER)
"""What is spent whether there is work or not."""
READ: Final = "read"
WRITE: Final = "write"
LIST: Final = "list"
DELETE: Final = "delete"
HOUR: Final = 3600.0
_JOB_ENDS: Final = frozenset({"job.completed", "job.failed", "job.poisoned"})


class Spending:
    """What is asked of the stores for a purpose.

    Args:
        purpose: what for.
        undecided: it may be changed until the end, and nothing is counted before it: only the answer to a receive tells
            what it was for.
    """

    def __init__(self, purpose: str, *, undecided: bool = False) -> None:
        self.purpose = purpose
        self._sent: Counter[tuple[str, str]] | None = Counter() if undecided else None

    def add(self, ledger: Ledger, service: str, kind: str) -> None:
        """A request."""
        if self._sent is None:
            ledger.add(service, kind, self.purpose)
        else:
            self._sent[service, kind] += 1

    def close(self, ledger: Ledger) -> None:
        """The purpose is known: from now on requests are counted at once."""
        sent, self._sent = self._sent or Counter(), None
        for (service, kind), number in sent.items():
            ledger.add(service, kind, self.purpose, number)


class Ledger:
    """Requests so far, by service, kind and purpose; one for a process."""

    def __init__(self) -> None:
        self._sent: Counter[tuple[str, str, str]] = Counter()
        self._jobs = 0
        self._since = clock.monotonic()

    def add(self, service: str, kind: str, purpose: str, number: int = 1) -> None:
        """Count.

        Args:
            service: `queue`, `table` or `blob`.
            kind: `read`, `write`, `list` or `delete`, which have prices of their own.
            purpose: one of `PURPOSES`.
            number: how many.
        """
        self._sent[service, kind, purpose] += number

    def note(self, event: str) -> None:
        """Count the jobs that end here."""
        self._jobs += event in _JOB_ENDS

    @property
    def sent(self) -> Mapping[tuple[str, str, str], int]:
        """Requests by service, kind and purpose."""
        return dict(self._sent)

    @property
    def jobs(self) -> int:
        """Jobs that ended here."""
        return self._jobs

    @property
    def seconds(self) -> float:
        """Since counting began."""
        return clock.monotonic() - self._since

    def of(self, purpose: str) -> int:
        """Requests for a purpose."""
        return sum(number for (_, _, what), number in self._sent.items() if what == purpose)

    def per_job(self) -> float | None:
        """Requests for jobs, by the jobs that ended here; None before the first."""
        return self.of(JOBS) / self._jobs if self._jobs else None

    def per_idle_hour(self, purpose: str) -> float:
        """Requests in an hour for what is spent whether there is work or not."""
        return self.of(purpose) * HOUR / max(self.seconds, 1.0)


ledger = Ledger()
"""This process's."""

_spending: ContextVar[Spending | None] = ContextVar("spending", default=None)


@contextmanager
def spent_on(purpose: str, *, undecided: bool = False) -> Iterator[Spending]:
    """What the block asks of the stores, and the tasks that it starts, is for a purpose.

    Args:
        purpose: one of `PURPOSES`.
        undecided: the answer's `purpose` may be changed until the block ends.
    """
    spending = Spending(purpose, undecided=undecided)
    mark = _spending.set(spending)
    try:
        yield spending
    finally:
        _spending.reset(mark)
        spending.close(ledger)


def count(service: str, method: str, url: str) -> None:
    """A request is being sent.

    Args:
        service: `queue`, `table` or `blob`.
        method: of HTTP.
        url: where to.
    """
    kind = {"GET": READ, "HEAD": READ, "DELETE": DELETE}.get(method, WRITE)
    if method == "GET" and "comp=list" in url:
        kind = LIST
    spending = _spending.get()
    if spending is None:
        ledger.add(service, kind, OTHER)
    else:
        spending.add(ledger, service, kind)
