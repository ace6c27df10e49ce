"""A process and all that it started: their processor time from /proc, and how they are frozen for a while."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def seconds(root: int) -> float:
    """What a process, its living descendants, and all children that were waited for have taken so far."""
    every = _every()
    return sum(int(ticks) for process in _tree(root, every) for ticks in every[process][11:15]) / _TICK


@contextmanager
def frozen(root: int) -> Iterator[None]:
    """A process and its descendants do nothing for the length of a block."""
    tree = _tree(root, _every())
    _signal(tree, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(list(reversed(tree)), signal.SIGCONT)


def _signal(processes: Sequence[int], number: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _every() -> Mapping[int, list[str]]:
    return {int(path.parent.name): found for path in Path("/proc").glob("[0-9]*/stat") if (found := _fields(path))}


def _tree(root: int, every: Mapping[int, list[str]]) -> Sequence[int]:
    """Parents before their children."""
    of_parent: dict[int, list[int]] = {}
    for process, its in every.items():
        of_parent.setdefault(int(its[1]), []).append(process)
    tree = [root] if root in every else []
    for process in tree:
        tree += of_parent.get(process, [])
    return tree


def _fields(stat: Path) -> list[str]:
    """From the state on: what comes before it may hold spaces."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return []
