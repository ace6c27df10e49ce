"""A console application that takes too much, or gives no sign of life, is stopped, and the reason says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rolehost.jobs.job import End
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.watchdog import Limits
from support.console_apps import outcome, shell, worker
from support.jobs import Bench, open_bench, succeed

MEGABYTE = 1 << 20
EATER = """
import sys, time
kept = []
for _ in range({pieces}):
    kept.append(bytearray(b"x" * {size}))
    time.sleep(0.05)
open(sys.argv[2], "w").write("done")
time.sleep({rest})
"""


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, lease=30.0) as bench:
        yield bench


def python(bench: Bench, program: str, **more: Any) -> ConsoleAppWorker:
    path = bench.folder / "application.py"
    path.write_text(program)
    return worker(bench, "{python}", str(path), "{source}", "{target}", **more)


def eater(bench: Bench, pieces: int, **more: Any) -> ConsoleAppWorker:
    return python(bench, EATER.format(pieces=pieces, size=4 * MEGABYTE, rest=30 if pieces > 20 else 1.5), **more)


async def test_an_application_that_eats_memory_is_poisoned_at_its_cap_and_others_are_unhurt(bench: Bench) -> None:
    app = eater(bench, 400, limits=Limits(memory=60 * MEGABYTE))
    job = await outcome(bench, app)
    assert job.attempts[0].end is End.OOM
    assert "MB of memory, and its limit is 60.0 MB" in job.attempts[0].detail
    assert job.charges.to_json() == {"app": 0, "resource": 1, "lost": 0}
    await bench.process(app.attempt)
    row = await bench.row(job.id)
    assert row.state == "poisoned"
    assert row.reason.startswith("resource: ")
    other = await bench.submit()
    await bench.process(succeed)
    assert (await bench.row(other.id)).state == "completed"


async def test_an_application_within_its_memory_goes_on(bench: Bench) -> None:
    job = await outcome(bench, eater(bench, 5, limits=Limits(memory=200 * MEGABYTE)))
    assert job.attempts[0].end is End.OK, job.reason


async def test_the_memory_of_the_whole_tree_counts(bench: Bench) -> None:
    path = bench.folder / "eat.py"
    path.write_text(EATER.format(pieces=400, size=4 * MEGABYTE, rest=30))
    job = await outcome(bench, shell(bench, f"python3 {path} x /dev/null & wait", limits=Limits(memory=60 * MEGABYTE)))
    assert job.attempts[0].end is End.OOM, job.reason


async def test_an_application_that_sleeps_for_ever_has_stalled(bench: Bench) -> None:
    job = await outcome(bench, shell(bench, "exec sleep 600", stall=1.5, timeout=60))
    assert job.attempts[0].end is End.STALLED
    assert "no sign of life for 1.5 s" in job.attempts[0].detail
    assert job.charges.to_json()["app"] == 1


@pytest.mark.parametrize(
    "sign",
    [
        "echo still here",
        "echo still here >&2",
        'printf x >> "$2"',
        "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done",
    ],
    ids=["stdout", "stderr", "result", "processor"],
)
async def test_any_sign_of_life_is_enough(bench: Bench, sign: str) -> None:
    script = f'for n in 1 2 3 4 5 6; do {sign}; sleep 0.5; done; echo done > "$2"'
    job = await outcome(bench, shell(bench, script, stall=1.6, timeout=60))
    assert job.attempts[0].end is End.OK, job.reason


async def test_one_that_works_without_an_end_runs_into_its_timeout(bench: Bench) -> None:
    job = await outcome(bench, shell(bench, "while :; do :; done", stall=0.8, timeout=2.0))
    assert job.attempts[0].end is End.TIMEOUT


async def test_what_the_system_holds_is_held_for_each_process(bench: Bench) -> None:
    limits = Limits(file_bytes=1000, open_files=40, cpu_seconds=77)
    script = 'ulimit -n >> "$2"; ulimit -t >> "$2"; head -c 5000 /dev/zero > "$2.big" || echo refused >> "$2"'
    job = await outcome(bench, shell(bench, script, limits=limits))
    assert job.result is not None, job.reason
    content = b"".join([piece async for piece in bench.inner.blobs.stream(job.result.blob)])
    assert content.split()[:2] == [b"40", b"77"]
    assert b"refused" in content


async def test_a_processor_hog_is_killed_at_its_seconds(bench: Bench) -> None:
    job = await outcome(bench, shell(bench, "while :; do :; done", limits=Limits(cpu_seconds=1), timeout=60))
    assert job.attempts[0].end is End.KILLED, job.reason
