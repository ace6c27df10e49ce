"""How far an unmodified program has come, read from what it prints or writes.

A parser is data: a pattern, keys as ffmpeg writes them, or the size of the result. What comes of it only rises, never
reaches 100 before the program has ended, and carries an estimate of the time that is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rolehost import clock

LONGEST_LINE = 8192
MOST = 99.9
"""Before the program has ended, however sure it is of itself."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come.

    Args:
        percent: 0 to 100, rising.
        eta_seconds: what may be left; None while nothing can be said.
    """

    percent: float
    eta_seconds: float | None = None

    def to_json(self) -> dict[str, float | None]:
        """As it stands in the row and in the API."""
        eta = None if self.eta_seconds is None else round(self.eta_seconds)
        return {"percent": round(self.percent, 1), "eta_seconds": eta}


class ProgressParser(Protocol):
    """Reads one line at a time; a new one for each run."""

    def read(self, line: str) -> float | None:
        """Percent, 0 to 100, if the line tells."""


@dataclass(slots=True)
class PatternProgress:
    """A regular expression with a group `percent`, or the groups `done` and `total`.

    Args:
        pattern: searched in each line. `total` may stand in a line of its own, before those with `done`.
    """

    pattern: re.Pattern[str]
    _total: float | None = field(default=None, init=False)

    def read(self, line: str) -> float | None:
        """Percent, if the line tells."""
        found = self.pattern.search(line)
        if found is None:
            return None
        groups = {name: number for name, text in found.groupdict().items() if (number := _number(text)) is not None}
        self._total = groups.get("total", self._total)
        if "percent" in groups:
            return groups["percent"]
        if "done" in groups and self._total:
            return 100 * groups["done"] / self._total
        return None


@dataclass(frozen=True, slots=True)
class KeyValueProgress:
    """Lines `key=value`, as ffmpeg's `-progress` writes them.

    Args:
        key: whose value tells how much is done, `out_time_us` in ffmpeg's case.
        total: the value of it at the end.
    """

    key: str
    total: float

    def read(self, line: str) -> float | None:
        """Percent, if the line has the key and a number."""
        key, separator, value = line.partition("=")
        done = _number(value.strip()) if separator and key.strip() == self.key else None
        return None if done is None or self.total <= 0 else 100 * done / self.total


@dataclass(frozen=True, slots=True)
class ResultProgress:
    """The size of the result, for a program that says nothing.

    Args:
        expected: its bytes at the end, as far as anybody knows.
    """

    expected: float

    def look(self, result: Path) -> float | None:
        """Percent; None while there is no result."""
        try:
            size = result.stat().st_size
        except OSError:
            return None
        return 100 * size / self.expected if self.expected > 0 else None


class Lines:
    """A stream of bytes in lines, which end with a line feed or, as those of progress bars do, with a carriage return.

    A line longer than 8 KiB is given in pieces: memory stays bounded whatever a program writes.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that are whole now, without their ends; empty ones are left out."""
        *whole, self._rest = re.split(rb"[\r\n]", self._rest + data)
        while len(self._rest) > LONGEST_LINE:
            whole.append(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]
        for line in whole:
            if line:
                yield line[:LONGEST_LINE].decode(errors="replace")


class Meter:
    """What parsers say, as something that a person can look at: it never falls back, and says how long it may take.

    Args:
        changed: called with each new value.
    """

    def __init__(self, changed: Callable[[Progress], None] = lambda _: None) -> None:
        self._changed = changed
        self._first: tuple[float, float] | None = None
        self.now: Progress | None = None

    def note(self, percent: float | None) -> None:
        """Take in what a parser said; what isn't more than before, or is no number, changes nothing."""
        if percent is None or not percent >= 0:
            return
        percent = min(percent, MOST)
        if self.now is not None and percent <= self.now.percent:
            return
        moment = clock.monotonic()
        if self._first is None:
            self._first = (moment, percent)
        self.now = Progress(percent, self._left(moment, percent))
        self._changed(self.now)

    def _left(self, moment: float, percent: float) -> float | None:
        """The rest at the pace since the first value: what came before it, opening files, says nothing of the pace."""
        began, at = self._first or (moment, percent)
        if percent - at < 1 or moment <= began:
            return None
        return (100 - percent) * (moment - began) / (percent - at)


def _number(text: str | None) -> float | None:
    """A finite number, or None: programs write N/A, nan and worse."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
