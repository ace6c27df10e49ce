"""How far an unmodified program has come, read from what it prints or writes.

A parser is data: a pattern, keys as ffmpeg writes them, or the size of the result; or a class of one's own. What comes
of it only rises, never reaches 100 before the program has ended, and carries an estimate of the time that is left.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from rolehost import clock

LONGEST_LINE = 8192
SEARCHED = 512
"""Characters at each end of a line in which a pattern is searched: some take the square of a line's length."""
MOST = 99.9
"""Before the program has ended, however sure it is of itself."""
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_LINE_ENDS = re.compile(rb"[\r\n\b]")
_NO_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")


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
    """Reads one line at a time; each run has a copy of its own, so that it may remember earlier lines."""

    def read(self, line: str) -> float | None:
        """Percent, 0 to 100, if the line tells."""


@dataclass(slots=True)
class PatternProgress:
    """A regular expression with a group `percent`, or the groups `done` and `total`.

    Where a program makes its work in parts, each of them from 0 to 100, the groups `part` (from 1) and `parts` tell
    which one it is at.

    Args:
        pattern: searched in each line; the last match in a line counts. `total` may stand in a line of its own, before
            those with `done`.
        unfinished: also look at a line that has not ended, for a program that writes `0...10...20...` along one line.
            The pattern must not match the beginning of a number: let it ask for what follows.
    """

    pattern: re.Pattern[str]
    unfinished: bool = False
    _total: float | None = field(default=None, init=False)

    def read(self, line: str) -> float | None:
        """Percent, if the line tells."""
        if len(line) > 2 * SEARCHED:
            line = f"{line[:SEARCHED]}\n{line[-SEARCHED:]}"
        told = None
        for found in self.pattern.finditer(line):
            percent = self._told(found)
            told = told if percent is None else percent
        return told

    def _told(self, found: re.Match[str]) -> float | None:
        groups = {name: number for name, text in found.groupdict().items() if (number := _number(text)) is not None}
        self._total = groups.get("total", self._total)
        percent = groups.get("percent")
        if percent is None and "done" in groups and self._total:
            percent = 100 * groups["done"] / self._total
        if percent is not None and groups.get("parts", 0) >= 1:
            return (100 * (groups.get("part", 1) - 1) + min(percent, 100.0)) / groups["parts"]
        return percent


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
        of_source: how many times the source's bytes that is, where `expected` is not told.
    """

    expected: float = 0.0
    of_source: float = 0.0

    def of(self, source: int) -> ResultProgress:
        """The same for a source of so many bytes."""
        return self if self.expected else replace(self, expected=self.of_source * source)

    def look(self, result: Path) -> float | None:
        """Percent; None while there is no result."""
        try:
            size = result.stat().st_size
        except OSError:
            return None
        return 100 * size / self.expected if self.expected > 0 else None


ProgressSpec: TypeAlias = ProgressParser | ResultProgress
"""What a worker says of how its application's progress is seen."""


class Lines:
    """A stream of bytes in lines, which end with a line feed or, as those of progress bars do, with a carriage return.

    Backspaces end a line, too. A line longer than 8 KiB is given in pieces: memory stays bounded whatever a program
    writes. Lines with control characters are no text, and left out.
    """

    def __init__(self) -> None:
        self._rest = b""

    @property
    def rest(self) -> str:
        """The line that has not ended yet."""
        return _text(self._rest)

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that are whole now, without their ends; empty ones are left out."""
        *whole, self._rest = _LINE_ENDS.split(self._rest + data)
        while len(self._rest) > LONGEST_LINE:
            whole.append(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]
        return (line for line in map(_text, whole) if line)


class Meter:
    """What parsers say, as something that a person can look at: it never falls back, and says how long it may take.

    Any thread may note a value.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: tuple[float, float] | None = None
        self.now: Progress | None = None

    def note(self, percent: float | None) -> None:
        """Take in what a parser said; what isn't more than before, or is no number, changes nothing."""
        try:
            percent = float("nan") if percent is None else float(percent)
        except (TypeError, ValueError, OverflowError):
            return
        if not 0 <= percent < float("inf"):
            return
        percent = min(percent, MOST)
        with self._lock:
            if self.now is not None and percent <= self.now.percent:
                return
            moment = clock.monotonic()
            if self._first is None:
                self._first = (moment, percent)
            self.now = Progress(percent, self._left(moment, percent))

    def _left(self, moment: float, percent: float) -> float | None:
        """The rest at the pace since the first value: what came before it, opening files, says nothing of the pace."""
        began, at = self._first or (moment, percent)
        if percent - at < 1 or moment <= began:
            return None
        return (100 - percent) * (moment - began) / (percent - at)


def _text(line: bytes) -> str:
    """A line as text; empty if it is none."""
    return "" if _NO_TEXT.search(line) else line[:LONGEST_LINE].decode(errors="replace")


def _number(text: str | None) -> float | None:
    """A finite number, or None: programs write N/A, nan and worse; some 1,234,567, others 12,5."""
    text = text or ""
    try:
        number = float(text.replace(",", "" if _THOUSANDS.fullmatch(text) else "."))
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
