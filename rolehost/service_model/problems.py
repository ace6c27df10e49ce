"""Collecting what is wrong with a definition, with the line where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Keys = tuple[str, ...]

_HEADER = re.compile(r"^\s*\[(?P<list>\[)?(?P<keys>[^\[\]]+)\]\]?\s*(#.*)?$")
_ENTRY = re.compile(r"^\s*(?P<keys>(?:[A-Za-z0-9_.\- ]|\"[^\"]*\"|'[^']*')+?)\s*=")
_MOST_PROBLEMS = 500
_MOST_CANDIDATES = 200
_LONGEST_LINE = 2000
_LONGEST_SENTENCE = 500
# Strings in a line and comments are passed over.
_STRING = re.compile(r"(?P<quotes>\"{3}|'{3})|\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*")
_KEY = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Args:
        code: short and stable, for looking it up.
        sentence: what a person should read.
        file: the definition's path, or the environment variable's name.
        line: from 1; 0 where it isn't known.
        warning: the definition is valid all the same.
    """

    code: str
    sentence: str
    file: str
    line: int = 0
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {'warning: ' if self.warning else ''}{self.code}: {self.sentence}"


class TooManyProblemsError(Exception):
    """Nobody reads on, so nobody looks on."""


@dataclass(slots=True)
class Problems:
    """Every problem of one file, in the order found; beyond some hundred there is a TooManyProblemsError."""

    file: str
    text: str = ""
    found: list[Problem] = field(default_factory=list)
    _lines: dict[Keys, int] | None = None

    @property
    def errors(self) -> list[Problem]:
        """Those that make the definition invalid."""
        return [problem for problem in self.found if not problem.warning]

    @property
    def warnings(self) -> list[Problem]:
        """The others."""
        return [problem for problem in self.found if problem.warning]

    def add(self, code: str, keys: Keys, sentence: str, *, warning: bool = False) -> None:
        """Note a problem with the value at `keys`."""
        file, line = self.place_of(keys)
        self.note(code, file, line, sentence, warning=warning)

    def add_at(self, code: str, line: int, sentence: str) -> None:
        """Note a problem at a line."""
        self.note(code, self.file, line, sentence)

    def note(self, code: str, file: str, line: int, sentence: str, *, warning: bool = False) -> None:
        """Note a problem with a line of a file; it is told in one line, however the file is written."""
        sentence = " ".join(sentence.split())
        if len(sentence) > _LONGEST_SENTENCE:
            sentence = f"{sentence[:_LONGEST_SENTENCE]}..."
        self.found.append(Problem(code, sentence, file, line, warning))
        if len(self.found) >= _MOST_PROBLEMS:
            told = f"there are more than {_MOST_PROBLEMS} problems: the rest isn't told"
            self.found.append(Problem("N07", told, file))
            raise TooManyProblemsError

    def word(self, keys: Keys) -> str:
        """What the value at `keys` is called in the file."""
        return keys[-1]

    def place_of(self, keys: Keys) -> tuple[str, int]:
        """The file and the line of this key."""
        return self.file, self.line_of(keys)

    def line_of(self, keys: Keys) -> int:
        """The line of this key, or of the nearest table around it."""
        if self._lines is None:
            self._lines = dict(_locate(self.text))
        for length in range(len(keys), 0, -1):
            if line := self._lines.get(keys[:length]):
                return line
            # A table that only tables inside it are written of.
            inside = [line for found, line in self._lines.items() if found[:length] == keys[:length]]
            if inside:
                return min(inside)
        return 0


def suggest(word: str, known: Iterable[str]) -> str:
    """`; did you mean "instances"?`, or nothing when no known word is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only where something is wrong: it costs start-up time

    by_folded = {name.casefold(): name for name in known}
    if len(by_folded) > _MOST_CANDIDATES:
        return ""
    near = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return f'; did you mean "{by_folded[near[0]]}"?' if near else ""


def _locate(text: str) -> Iterator[tuple[Keys, int]]:
    table: Keys = ()
    counts: dict[Keys, int] = {}
    inside = ""
    for number, line in enumerate((each[:_LONGEST_LINE] for each in text.split("\n")), start=1):
        before, inside = inside, _open_string(line, inside)
        if before:
            continue
        if header := _HEADER.match(line):
            table = _split(header["keys"])
            if header["list"]:
                counts[table] = counts.get(table, -1) + 1
            table = _numbered(table, counts)
            yield table, number
        elif entry := _ENTRY.match(line):
            yield table + _split(entry["keys"]), number


def _open_string(line: str, quotes: str) -> str:
    """The quotes of the string of several lines that is open at the line's end; empty: none is.

    Args:
        line: of a TOML document.
        quotes: the same, for its beginning.
    """
    position = 0
    while True:
        if quotes:
            end = line.find(quotes, position)
            if end < 0:
                return quotes
            quotes, position = "", end + len(quotes)
        piece = _STRING.search(line, position)
        if piece is None:
            return ""
        quotes, position = piece["quotes"] or "", piece.end()


def _numbered(table: Keys, counts: dict[Keys, int]) -> Keys:
    # `[[roles.A.startup]]`: what follows belongs to the list's newest entry.
    for length in range(len(table), 0, -1):
        if (count := counts.get(table[:length])) is not None:
            return (*table[:length], str(count), *table[length:])
    return table


def _split(keys: str) -> Keys:
    return tuple(next(part for part in parts if part or part == parts[-1]) for parts in _KEY.findall(keys))
