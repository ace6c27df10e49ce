"""Who belongs to a child: its session, its descendants, and whatever carries its marker.

After a child's main process has ended, what it left behind is adopted by us (we are a subreaper) and is one of
four things, looked up in this order: this child's own, a live neighbour's, our own (a process that this process
started otherwise), or nobody's. Nobody's is ended once no live child is old enough to have started it: a process
can leave its session and empty its environment, but it can't be older than its ancestor.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from rolehost.processes import procfs
from rolehost.processes.cgroups import Cgroup
from rolehost.processes.lineage import is_subreaper
from rolehost.processes.procfs import MARKER, Process
from rolehost.telemetry import emit

__all__ = ["MARKER", "Root", "Usage", "end_strays", "end_tree", "live", "signal_tree", "usage"]

_REAP_SECONDS = 1.0
_KILL_SECONDS = 5.0  # what a killed process may take to go; one that hangs in the kernel takes longer


@dataclass(slots=True, eq=False)
class Root:
    """A child as its tree sees it; it is `live` until its main process has ended, and known until it is reaped."""

    pid: int
    marker: str
    started: int
    ended: bool = False
    is_helper: bool = False  # it starts only what is known: nothing that was left behind can be its own
    group: Cgroup | None = None  # what is in there is of its tree, wherever else it went


live: dict[int, Root] = {}
_seen: set[tuple[int, int]] = set()  # members seen alive, pid and start: nobody waits for a stray's status but us


def members(root: Root) -> list[Process]:
    """Every process of a child's tree, its main process too, by a look at the whole machine; no zombies."""
    table = procfs.processes()
    others = {pid for pid in live if pid != root.pid} | _ourselves(table)
    shared = any(each.marker == root.marker for each in live.values() if each is not root)
    found = {pid for pid, each in table.items() if _is_in(root, each, by_marker=not shared) and pid not in others}
    found |= _grouped(root) & table.keys() - others
    tree = _alive(table, _with_descendants(table, found, others))
    _seen.update((each.pid, each.started) for each in tree)
    return tree


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree takes: seconds of processor time so far, bytes that are resident now, and how many it is."""

    worked: float
    memory: int
    processes: int = 0


def usage(root: Root) -> Usage:
    """What a child's tree takes."""
    table = procfs.processes()
    tree = [table[pid] for pid in _offspring(root, table)]
    living = sum(not each.zombie for each in tree)
    return Usage(sum(each.worked for each in tree), sum(each.memory for each in tree), living)


def offspring(root: Root) -> set[int]:
    """The living processes of a child's tree, its main process too; for any thread."""
    table = procfs.processes()
    return {pid for pid in _offspring(root, table) if not table[pid].zombie}


def _offspring(root: Root, table: dict[int, Process]) -> set[int]:
    """Markers are read only of what was left to us: a look costs a millisecond or two."""
    us = os.getpid()
    found = {
        each.pid
        for each in table.values()
        if each.started >= root.started
        and (root.pid in {each.pid, each.session} or (each.parent == us and procfs.marker(each.pid) == root.marker))
    }
    return _with_descendants(table, found | (_grouped(root) & table.keys()), ())


def _grouped(root: Root) -> set[int]:
    return root.group.pids() - {os.getpid()} if root.group is not None else set()


def _is_in(root: Root, each: Process, *, by_marker: bool) -> bool:
    if each.started < root.started or each.zombie:
        return False
    return root.pid in {each.pid, each.session} or (by_marker and procfs.marker(each.pid) == root.marker)


def _ourselves(table: dict[int, Process]) -> set[int]:
    """We and our ancestors: never part of what we end, whatever our environment says."""
    line = set()
    pid = os.getpid()
    while pid in table and pid not in line:
        line.add(pid)
        pid = table[pid].parent
    return line


def _with_descendants(table: dict[int, Process], pids: Collection[int], but: Collection[int]) -> set[int]:
    offspring: dict[int, list[int]] = {}
    for each in table.values():
        offspring.setdefault(each.parent, []).append(each.pid)
    found: set[int] = set()
    open_ends = list(pids)
    while open_ends:
        pid = open_ends.pop()
        if pid not in found and pid not in but:
            found.add(pid)
            open_ends += offspring.get(pid, ())
    return found


def _alive(table: dict[int, Process], pids: Iterable[int]) -> list[Process]:
    return [table[pid] for pid in pids if pid in table and not table[pid].zombie]


def _orphans() -> list[Process]:
    """Children of ours that we never started, as far as can be told; the dead among them are reaped on the way."""
    found = []
    for pid in procfs.children():
        if pid in live:
            continue
        each = procfs.process(pid)
        if each is None or each.session == os.getsid(0):
            continue
        if not each.zombie:
            found.append(each)
        elif pid != each.session or (pid, each.started) in _seen:
            _reap(each)
        else:  # it led a session, as a Popen of other code in this process may: whoever waits for it comes first
            asyncio.get_running_loop().call_later(_REAP_SECONDS, _reap, each)
    return found


def _is_nobodys(each: Process) -> bool:
    running = [other for other in live.values() if not other.ended]
    if any(each.session == other.pid or (each.started >= other.started and not other.is_helper) for other in running):
        return False
    mark = procfs.marker(each.pid)
    # Code in this process that starts a program itself gives it our environment.
    return not mark or mark != os.environ.get(MARKER)


def _reap(dead: Process) -> None:
    if dead.pid not in live and procfs.process(dead.pid) == dead:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(dead.pid, os.WNOHANG)


def _kill(stray: Process) -> None:
    _seen.add((stray.pid, stray.started))
    procfs.send(stray, signal.SIGKILL)


def _left(root: Root, *, thorough: bool) -> tuple[list[Process], list[Process]]:
    """What is left of a tree whose main process has ended, and what is nobody's; quickly told where no orphan came."""
    orphans = _orphans()
    if not orphans and not thorough and is_subreaper() and not _grouped(root) - {root.pid}:
        return [], []
    own = members(root)
    return own, [each for each in orphans if each not in own and _is_nobodys(each)]


def signal_tree(root: Root, number: int) -> None:
    """Signal every process of a child's tree, its main process too."""
    if root.group is not None and number == signal.SIGKILL:
        root.group.kill()
    # The group first, in one step: a process can't fork out of it in between.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(root.pid, number)
    for each in members(root):
        if number == signal.SIGKILL:
            _kill(each)
        elif each.group != root.pid:
            procfs.send(each, number)


async def end_tree(root: Root, *, until: Callable[[], float], thorough: bool) -> None:
    """End what is left of a tree whose main process has ended; returns once it is gone, and reaped if it is ours.

    What is nobody's is ended on the way, without grace.

    Args:
        root: the child.
        until: the loop's time up to which what is left may still end by itself (asked again: a stop may shorten it).
        thorough: look at the whole machine even if no orphan came to us.
    """
    loop = asyncio.get_running_loop()
    if not procfs.AVAILABLE:
        await _end_group(root, until)
        return
    give_up = math.inf
    pause = 0.001
    ended: set[int] = set()
    while any(left := _left(root, thorough=thorough)):
        own, nobodys = left
        thorough = bool(own)
        overdue = own + nobodys if loop.time() >= until() else nobodys
        for each in overdue:
            _kill(each)
        ended |= {each.pid for each in overdue}
        give_up = min(give_up, loop.time() + _KILL_SECONDS) if overdue else give_up
        if loop.time() > give_up:
            _tell("child.strays_left", root.marker, {each.pid for each in overdue})
            return
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.05)
    if ended:
        _orphans()  # reaps: one may have become a zombie between the last two looks
        _tell("child.strays_ended", root.marker, ended)
    if _seen:
        ours = set(procfs.children())
        _seen.intersection_update([each for each in _seen if each[0] in ours])


def _tell(event: str, marker: str, pids: Collection[int]) -> None:
    emit(event, marker=marker, pids=sorted(pids))


async def _end_group(root: Root, until: Callable[[], float]) -> None:
    """All that can be done without /proc."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while loop.time() < until():
            os.killpg(root.pid, 0)
            await asyncio.sleep(0.02)
        os.killpg(root.pid, signal.SIGKILL)


async def end_strays(prefix: str, known: Collection[int] | None = None) -> int:
    """End what an earlier process left behind: every process on the machine whose marker begins with `prefix`.

    Never ended are this process, its ancestors, and the trees of its live children (stop those).

    Args:
        prefix: how the markers begin; never empty.
        known: where given, every descendant of this process is ended too, but for these pids, their descendants and
            live children's trees.

    Returns:
        How many processes were ended.
    """
    if not prefix:
        raise ValueError("An empty prefix would name every marked process on the machine.")
    ended: set[int] = set()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _KILL_SECONDS
    while left := _strays(prefix, known):
        if loop.time() > deadline:
            _tell("child.strays_left", prefix, {each.pid for each in left})
            break
        ended |= {each.pid for each in left}
        for each in left:
            _kill(each)
        await asyncio.sleep(0.005)
    if ended:
        _orphans()  # reaps
        _tell("child.strays_ended", prefix, ended)
    return len(ended)


def _strays(prefix: str, known: Collection[int] | None) -> list[Process]:
    table = procfs.processes()
    but = _ourselves(table) | _with_descendants(table, [*live, *(known or ())], ())
    found = {pid for pid in table if pid not in but and (procfs.marker(pid) or "").startswith(prefix)}
    if known is not None:
        us = os.getpid()
        found |= _with_descendants(table, [each.pid for each in table.values() if each.parent == us], but)
    return _alive(table, _with_descendants(table, found, but))
