"""How far a long command, or a job, has come: a bar on a terminal, now and then a line otherwise, always on stderr."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Protocol, Self

from rolehost import clock
from rolehost.jobs.job import Job

_SECONDS_BETWEEN_LINES = 2.0


class Display(AbstractContextManager["Display"], Protocol):
    """Shows how far it has come."""

    def show(self, phase: str, done: int, total: int) -> None:
        """It has come so far, in this phase."""

    def show_share(self, phase: str, percent: float | None, told: str) -> None:
        """It has come to this share of 100, where that is known; `told` says so in words."""


def new_display() -> Display:
    """What fits where stderr leads to."""
    return Bar() if sys.stderr.isatty() else Lines()


def show_job(display: Display, job: Job) -> None:
    """How far one job has come that somebody waits for."""
    display.show_share(job.state, job.progress["percent"] if job.progress else None, shown_progress(job))


def shown_progress(job: Job) -> str:
    """How far a job has come, in words; empty where nobody knows."""
    if not job.progress:
        return ""
    percent, left = job.progress.get("percent"), job.progress.get("eta_seconds")
    return f"{percent:g} %" + (f", about {_lasting(left)} left" if left is not None else "")


def bar(percent: float, width: int) -> str:
    """A bar in plain characters."""
    full = round(width * percent / 100)
    return f"[{'#' * full}{'.' * (width - full)}]"


def _lasting(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Lines:
    """A line when a phase is over, and every two seconds before."""

    def __init__(self) -> None:
        self._told = ""
        self._next = clock.monotonic() + _SECONDS_BETWEEN_LINES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, phase: str, done: int, total: int) -> None:
        """See `Display.show`."""
        self._print(f"{phase}: {done} of {total}", soon=done < total)

    def show_share(self, phase: str, percent: float | None, told: str) -> None:
        """See `Display.show_share`."""
        del percent
        self._print(f"{phase}: {told}" if told else phase, soon=True)

    def _print(self, line: str, *, soon: bool) -> None:
        now = clock.monotonic()
        if line == self._told or (soon and now < self._next):
            return
        self._told, self._next = line, now + _SECONDS_BETWEEN_LINES
        print(line, file=sys.stderr, flush=True)


class Bar:
    """A progress bar; it leaves nothing behind."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only where there is a terminal: it costs start-up time
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - as above

        told = TextColumn("{task.fields[told]}")
        columns = (TextColumn("{task.description}"), BarColumn(), told, TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", told="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, phase: str, done: int, total: int) -> None:
        """See `Display.show`."""
        self._progress.update(self._task, description=phase, completed=done, total=total, told=f"{done}/{total}")

    def show_share(self, phase: str, percent: float | None, told: str) -> None:
        """See `Display.show_share`."""
        total = None if percent is None else 100  # without one it shows that something moves
        self._progress.update(self._task, description=phase, completed=percent or 0, total=total, told=told)
