"""docs/reliability.md names for each fault the tests that bring it about: here the names are checked."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from test_parity_table import _may_not_run, functions

TABLE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
ROWS = range(1, 44)
# What they wait for: an engine with a broker. No other row may.
MAY_BE_OPEN_IN_PART = {27}
HEADER = "| # | Fault | What happens | Open | Tests |"
NOTHING = "–"  # noqa: RUF001 - the dash of the table
_ROW = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")
_TESTS = re.compile(r"`test_\w+`(, `test_\w+`)*")


@dataclass(frozen=True)
class Row:
    number: int
    cells: tuple[str, ...]

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`(test_\w+)`", self.cells[-1])


@cache
def lines() -> tuple[str, ...]:
    """The table, from its header to the end of the page."""
    text = TABLE.read_text(encoding="utf-8")
    return tuple(text[text.index(HEADER) :].splitlines())


@cache
def rows() -> tuple[Row, ...]:
    found = [_ROW.fullmatch(line) for line in lines()]
    return tuple(Row(int(each[1]), each.groups()[1:]) for each in found if each)


def test_every_fault_has_its_row_once_and_in_order() -> None:
    assert [row.number for row in rows()] == list(ROWS)


def test_every_line_of_the_faults_has_its_form() -> None:
    other = [line for line in lines() if not _ROW.fullmatch(line)]
    assert other == [HEADER, "|-|-|-|-|-|"]
    for row in rows():
        assert all(cell == cell.strip() for cell in row.cells), row.number


@pytest.mark.parametrize("number", ROWS)
def test_a_fault_names_tests_that_run(number: int) -> None:
    (row,) = (row for row in rows() if row.number == number)
    assert _TESTS.fullmatch(row.cells[-1]), "the last column names tests and nothing else"
    assert len(row.tests) == len(set(row.tests))
    defined = Counter(each.name for each in functions())
    assert {name: defined[name] for name in row.tests} == dict.fromkeys(row.tests, 1)
    assert [each.name for each in functions() if each.name in row.tests and _may_not_run(each)] == []


def test_only_what_waits_for_something_is_open() -> None:
    assert {row.number for row in rows() if row.cells[-2] != NOTHING} == MAY_BE_OPEN_IN_PART
