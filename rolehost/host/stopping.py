"""What a signal to stop means: the first asks for a stop in order, a later one for haste."""

from __future__ import annotations

import asyncio

from rolehost import clock

HURRY_SECONDS = 2.0
"""What is left after a second signal: enough to end console applications and to give their jobs back, uncharged."""
_ONE_REQUEST_SECONDS = 1.0


class StopRequests:
    """Signals to stop, as the events `stop` and `hurry`.

    A service manager may signal every process of the tree, and each parent tells its children besides: what comes
    within a second of the first counts as one request.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._since = 0.0

    def note(self) -> bool:
        """A signal came; whether it asks for something new."""
        if not self.stop.is_set():
            self._since = clock.monotonic()
            self.stop.set()
            return True
        if clock.monotonic() - self._since < _ONE_REQUEST_SECONDS or self.hurry.is_set():
            return False
        self.hurry.set()
        return True
