"""What an attempt printed: head and tail in its row, all of it in a blob that never holds up a commit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.jobs.job import End, JobSpec, JobState
from rolehost.workers import output
from rolehost.workers.outcome import Outcome
from rolehost.workers.scratch import Scratch
from support.jobs import Bench, open_bench

STDOUT = "".join(f"line {number}\n" for number in range(20_000))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as opened:
        yield opened


async def chatty(_job: JobSpec, _scratch: Scratch) -> Outcome:
    """An attempt that prints a lot and finds its input at fault."""
    return Outcome(end=End.BAD_INPUT, exit_code=65, stdout=STDOUT, stderr="at fault\n")


async def kept(bench: Bench, log: str) -> str:
    return b"".join([piece async for piece in bench.inner.blobs.stream(log)]).decode()


async def test_all_of_the_output_is_kept_beside_head_and_tail(bench: Bench) -> None:
    job = await bench.submit()
    await bench.process(chatty)
    (attempt,) = (await bench.row(job.id)).attempts
    assert attempt.stdout.startswith("line 0\n")
    assert attempt.stdout.endswith("line 19999\n")
    assert len(attempt.stdout) < 10_000
    assert attempt.log.startswith(f"logs/{job.id}/1-")
    assert await kept(bench, attempt.log) == f"--- stdout\n{STDOUT}--- stderr\nat fault\n"


async def test_a_lost_answer_loses_no_log(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.lose_answer("blobs.put")
    await bench.process(chatty)
    (attempt,) = (await bench.row(job.id)).attempts
    assert bench.faults.fired == ["blobs.put"]
    assert STDOUT in await kept(bench, attempt.log)


async def test_a_log_that_can_not_be_kept_fails_nothing(bench: Bench) -> None:
    job = await bench.submit()
    bench.faults.refuse("blobs.put", times=None)
    await bench.process(chatty)
    row = await bench.row(job.id)
    assert row.state is JobState.FAILED
    assert row.attempts[0].log == ""
    assert row.attempts[0].stderr == "at fault\n"


async def test_a_silent_store_delays_no_commit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "KEEP_SECONDS", 0.1)
    job = await bench.submit()
    bench.faults.delay("blobs.put", 60.0)
    began = clock.monotonic()
    await bench.process(chatty)
    assert clock.monotonic() - began < 10
    assert (await bench.row(job.id)).state is JobState.FAILED
