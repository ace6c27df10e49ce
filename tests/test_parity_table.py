"""docs/parity.md names for each behaviour of the original the tests that show it: here the names are checked."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "parity.md"
ROWS = range(1, 116)
# They belong to engines of queues; the others have no excuse.
MAY_BE_PLANNED = range(95, 109)
HEADER = "| # | Member or behaviour | In rolehost | What differs, and why | Tests |"
PLANNED = "planned"
_ROW = re.compile(r"\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|")
_TESTS = re.compile(r"`test_\w+`(, `test_\w+`)*")
_UNRUN = ("skip", "skipif", "xfail")


@dataclass(frozen=True)
class Row:
    number: int
    cells: tuple[str, ...]

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`(test_\w+)`", self.cells[-1])


@cache
def rows() -> tuple[Row, ...]:
    found = [_ROW.fullmatch(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return tuple(Row(int(each[1]), each.groups()[1:]) for each in found if each)


@cache
def functions() -> tuple[ast.FunctionDef | ast.AsyncFunctionDef, ...]:
    """Every test function of the suite that is collected and runs."""
    found: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if "fixtures" not in path.relative_to(ROOT).parts:
            module = ast.parse(path.read_text(encoding="utf-8"))
            if not any(map(_never_runs, _marks_of(module))):
                found += [
                    each
                    for each in module.body
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name.startswith("test_")
                ]
    return tuple(found)


def _marks_of(module: ast.Module) -> list[ast.expr]:
    """What a module says of all its tests."""
    return [
        statement.value
        for statement in module.body
        if isinstance(statement, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in statement.targets)
    ]


def _never_runs(expression: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr in _UNRUN for node in ast.walk(expression))


def _may_not_run(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return any(map(_never_runs, [*function.decorator_list, *calls]))


def test_the_table_has_every_row_once_and_in_order() -> None:
    assert [row.number for row in rows()] == list(ROWS)


def test_every_line_of_the_table_has_its_form() -> None:
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    other = [line for line in lines if not _ROW.fullmatch(line)]
    assert set(other) == {HEADER, "|-|-|-|-|-|"}
    for row in rows():
        assert all(cell == cell.strip() for cell in row.cells), row.number


@pytest.mark.parametrize("number", ROWS)
def test_a_row_names_tests_that_run(number: int) -> None:
    (row,) = (row for row in rows() if row.number == number)
    if row.number in MAY_BE_PLANNED and row.cells[-1] == PLANNED:
        return
    assert _TESTS.fullmatch(row.cells[-1]), "the last column names tests and nothing else"
    assert len(row.tests) == len(set(row.tests))
    defined = Counter(each.name for each in functions())
    assert {name: defined[name] for name in row.tests} == dict.fromkeys(row.tests, 1)
    assert [each.name for each in functions() if each.name in row.tests and _may_not_run(each)] == []
