"""The idle delay, where a queue can't wait: from 100 ms, growing with chance, to 30 s; reset by work."""

from __future__ import annotations

import random

SHORTEST = 0.1
LONGEST = 30.0


class IdleDelay:
    """How long to wait before the next look."""

    def __init__(self, shortest: float = SHORTEST, longest: float = LONGEST) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest

    def reset(self) -> None:
        """There was work."""
        self._next = self._shortest

    def after_nothing(self) -> float:
        """There was none."""
        now = self._next
        self._next = min(self._longest, self._next * random.uniform(1.3, 1.9))  # noqa: S311 - jitter, not a secret
        return now

    def after_error(self) -> float:
        """The store did not answer: the same growth, never below a second."""
        return max(1.0, self.after_nothing())
