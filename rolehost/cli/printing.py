"""How things are written: tables, times and sizes; styled on a terminal, plain and untruncated otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rolehost import clock

_STYLES = {
    "queued": "cyan",
    "running": "blue",
    "completed": "green",
    "failed": "red",
    "poisoned": "red",
    "cancelled": "yellow",
}
_KILO = 1000
_LAST_COLUMN = 24
# A shortened column has at least so many characters, and more if columns that may go make the room for it.
_LEAST, _READABLE = 8, 20


def print_json(document: Any) -> None:
    """Write the one JSON document of a command."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, heading: bool = True) -> None:
    """Write rows in columns; nothing is cut off here.

    Args:
        columns: their names; the last one takes the space that is left and may fold.
        rows: a text for each column.
        heading: whether the names are written.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_styled(columns, cells, heading=heading)
        return
    lines = [list(columns), *cells] if heading else cells
    widths = [max((len(line[index]) for line in lines), default=0) for index in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_styled(columns: Sequence[str], rows: Sequence[Sequence[str]], *, heading: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 - only where there is a terminal: it costs start-up time
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    table = Table(box=None, show_header=heading, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column != columns[-1])
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    # Narrower than this a table can't be read: then the terminal breaks its lines.
    fixed = sum(max(len(row[index]) for row in [columns, *rows]) + 2 for index in range(len(columns) - 1))
    console = Console(highlight=False)
    console.width = max(console.width, fixed + _LAST_COLUMN)
    console.print(table)


def fitted(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, spare: Sequence[str], shorten: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """A table that fits a terminal, as far as it can: columns are left out, and texts shortened.

    Args:
        columns: their names.
        rows: a text for each.
        width: the terminal's.
        spare: the columns that may be left out, the first of them first.
        shorten: the columns whose texts may be shortened.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    kept = list(range(len(columns)))

    def longest(index: int) -> int:
        return max(len(line[index]) for line in [columns, *cells])

    def left() -> int:
        return width - 2 * (len(kept) - 1) - sum(longest(index) for index in kept if columns[index] not in shorten)

    flexible = [index for index in kept if columns[index] in shorten]
    wanted = min(sum(longest(index) for index in flexible), len(flexible) * _READABLE)
    for name in spare:
        if left() >= wanted:
            break
        kept.remove(list(columns).index(name))
    room = max(left(), len(flexible) * _LEAST)
    for number, index in enumerate(sorted(flexible, key=longest)):
        most = max(_LEAST, room // (len(flexible) - number))
        for row in cells:
            row[index] = shortened(row[index], most)
        room -= longest(index)
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in cells]


def shortened(text: str, most: int) -> str:
    """A text of so many characters at most: the middle goes, so that a file's name keeps its extension."""
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - end :]}"


def one_line(text: str) -> str:
    """A text without line breaks and without what could steer a terminal."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """A text that can't steer a terminal: of the control characters only line breaks and tabs are left."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text.replace("\r\n", "\n")
    )


def shown_time(moment: datetime | None) -> str:
    """`2026-11-20 12:34:56Z`."""
    return clock.iso(moment).replace("T", " ")[:19] + "Z" if moment else ""


def shown_duration(begin: datetime | None, end: datetime | None) -> str:
    """`1.25 s`, `3 min 20 s`; empty while either end is open."""
    if begin is None or end is None:
        return ""
    seconds = max(0.0, (end - begin).total_seconds())
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.2f} s"


def shown_size(size: int) -> str:
    """`512 B`, `24.3 kB`, `3.1 MB`."""
    if size < _KILO:
        return f"{size} B"
    value, units = size / _KILO, iter(("kB", "MB", "GB"))
    unit = next(units)
    for larger in units:
        if value < _KILO:
            break
        value, unit = value / _KILO, larger
    return f"{value:.1f} {unit}"
