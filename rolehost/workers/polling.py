"""How long a worker waits before it asks again: after nothing, after an error, and when a store asks for patience."""

from __future__ import annotations

import random

from rolehost.errors import StoreThrottledError

SHORTEST = 0.1
LONGEST = 30.0
AFTER_ERROR = 1.0


class IdleDelay:
    """How long to wait before the next look.

    Where a queue can't wait: from 100 ms, growing with chance, to 30 s, and reset by work. After an error: the same
    from a second on, so that many workers don't come back at once.
    """

    def __init__(self, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest
        self._next_after_error = AFTER_ERROR

    def reset(self) -> None:
        """There was work."""
        self._next = self._shortest
        self.answered()

    def answered(self) -> None:
        """The store answers: its next error is a first one."""
        self._next_after_error = AFTER_ERROR

    def after_nothing(self) -> float:
        """There was none."""
        now = self._next
        self._next = min(self._longest, self._next * random.uniform(1.3, 1.9))  # noqa: S311 - jitter, not a secret
        return now

    def after_error(self) -> float:
        """The store did not answer: a second at first, twice as long each time, and a little by chance."""
        now = self._next_after_error
        self._next_after_error = min(self._longest, 2 * now)
        return min(self._longest, now * random.uniform(1.0, 1.5))  # noqa: S311 - the same


def at_least_as_asked(error: Exception, usual: float, most: float) -> float:
    """The pause before a call is made again: as usual, or as long as the store asks for, up to `most`."""
    asked = error.retry_after if isinstance(error, StoreThrottledError) else None
    return usual if asked is None else max(usual, min(asked, most))
