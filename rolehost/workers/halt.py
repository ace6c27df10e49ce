"""A job that has to stop at once, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rolehost.jobs.job import End
from rolehost.workers.outcome import Outcome
from rolehost.workers.reasons import shortened


class Halt:
    """Stops one job without grace. `reason` is empty until then."""

    def __init__(self) -> None:
        self.reason = ""
        self._act: Callable[[], None] | None = None

    def now(self, reason: str) -> bool:
        """Stop the job; whether anybody was there to do it.

        Args:
            reason: the rest of a sentence that begins with what was stopped.
        """
        self.reason = reason
        if self._act is not None:
            self._act()
        return self._act is not None

    @contextmanager
    def ends(self, act: Callable[[], None]) -> Iterator[None]:
        """Call `act` when the job has to stop, at once if it has to already."""
        self._act = act
        if self.reason:
            act()
        try:
            yield
        finally:
            self._act = None

    def judged(self, outcome: Outcome, what: str) -> Outcome:
        """The outcome of a job that was halted, or as it is: what ended well in the last moment counts.

        Args:
            outcome: what the job's end looks like by itself.
            what: what was stopped, as a person calls it.
        """
        if not self.reason or outcome.end in {End.OK, End.BAD_INPUT}:
            return outcome
        return replace(outcome, end=End.KILLED, detail=shortened(f"{what} was stopped: {self.reason}"))
