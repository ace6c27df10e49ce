"""How far a long command has come: a bar on a terminal, now and then a line otherwise, always on stderr."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Protocol, Self

from rolehost import clock

_SECONDS_BETWEEN_LINES = 2.0


class Display(AbstractContextManager["Display"], Protocol):
    """Shows how far it has come."""

    def show(self, phase: str, done: int, total: int) -> None:
        """It has come so far, in this phase."""


def new_display() -> Display:
    """What fits where stderr leads to."""
    return Bar() if sys.stderr.isatty() else Lines()


class Lines:
    """A line when a phase is over, and every two seconds before."""

    def __init__(self) -> None:
        self._told = ("", 0)
        self._next = clock.monotonic() + _SECONDS_BETWEEN_LINES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, phase: str, done: int, total: int) -> None:
        """See `Display.show`."""
        now = clock.monotonic()
        if (phase, done) == self._told or (done < total and now < self._next):
            return
        self._told, self._next = (phase, done), now + _SECONDS_BETWEEN_LINES
        print(f"{phase}: {done} of {total}", file=sys.stderr, flush=True)


class Bar:
    """A progress bar; it leaves nothing behind."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only where there is a terminal: it costs start-up time
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, phase: str, done: int, total: int) -> None:
        """See `Display.show`."""
        self._progress.update(self._task, description=phase, completed=done, total=total)
