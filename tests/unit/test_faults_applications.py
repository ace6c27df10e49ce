"""Console applications at their worst, under a worker: what is left of them, and what the row says."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.jobs.job import End
from rolehost.processes import become_subreaper, lineage, procfs
from support.console_apps import outcome, shell
from support.jobs import Bench, open_bench
from support.stores import until

GRACE = 0.3
OUTPUT = 4096


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, lease=30.0, term_grace=GRACE, output=OUTPUT) as bench:
        yield bench


@pytest.fixture(autouse=True)
async def subreaper() -> AsyncIterator[None]:
    """As a role process is."""
    become_subreaper()
    yield
    await until(no_zombie_is_left, within=5)
    assert lineage._libc is not None
    lineage._libc.prctl(lineage._PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def no_zombie_is_left() -> bool:
    left = [pid for pid in procfs.children() if (found := procfs.process(pid)) and found.zombie]
    for pid in left:
        os.waitpid(pid, os.WNOHANG)
    return not left


def alive(pid: int) -> bool:
    found = procfs.process(pid)
    return found is not None and not found.zombie


async def test_deaf_loud_and_with_a_grandchild_in_a_session_of_its_own_it_is_gone_in_time(bench: Bench) -> None:
    pids = bench.folder / "pids"
    pids.touch(0o666)
    pids.chmod(0o666)
    stray = f'trap "" TERM PIPE; echo $$ >> {pids}; while :; do echo stray; sleep 0.01; done'
    leave = f"(setsid env -i PATH=\"$PATH\" sh -c '{stray}' &)"
    app = shell(bench, f"trap '' TERM; echo $$ >> {pids}; echo the first line; {leave}; exec yes", timeout=1.0)
    since = time.monotonic()
    job = await outcome(bench, app)
    assert time.monotonic() - since < 1.0 + GRACE + 2
    known = [int(pid) for pid in pids.read_text().split()]
    assert len(known) == 2
    assert [pid for pid in known if alive(pid)] == []
    (attempt,) = job.attempts
    assert (attempt.end, job.charges.to_json()) == (End.TIMEOUT, {"app": 1, "resource": 0, "lost": 0})
    assert len(attempt.stdout) < 3 * OUTPUT, "the row keeps head and tail"
    assert attempt.stdout.startswith("the first line\n")
    assert " left out ..." in attempt.stdout, "what was left out is told"


async def test_many_children_that_fork_on_are_gone_too(bench: Bench) -> None:
    """A fork bomb, as far as a test may go: each of 40 leaves its session and starts the next."""
    pids = bench.folder / "pids"
    pids.touch(0o666)
    pids.chmod(0o666)
    again = bench.folder / "again"
    again.write_text(f'echo $$ >> {pids}; [ "$1" -gt 0 ] && setsid sh "$0" $(($1 - 1)) & trap "" TERM; sleep 600\n')
    again.chmod(0o644)
    running = asyncio.create_task(outcome(bench, shell(bench, f"sh {again} 40", timeout=20.0)))
    await until(lambda: pids.read_text().count("\n") == 41, within=15)
    since = time.monotonic()
    bench.desk.interrupt.set()
    job = await running
    assert time.monotonic() - since < GRACE + 2
    assert [pid for pid in map(int, pids.read_text().split()) if alive(pid)] == []
    assert (job.state, job.attempts[0].end) == ("queued", End.DRAINED)
