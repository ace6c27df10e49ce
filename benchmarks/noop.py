"""No-op jobs a second, embedded, one worker process: rows, leases and messages at `synchronous=FULL`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks import figures
from benchmarks.service import until, worker
from rolehost import clock
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores.connect import connect


async def run(folder: Path, jobs: int, rounds: int) -> None:
    """Print submissions and jobs a second."""
    place = folder / "noop"
    place.mkdir()
    asset = place / "asset"
    asset.write_bytes(b"nothing")
    submitted: list[float] = []
    finished: list[float] = []
    for number in range(rounds):
        here = place / str(number)
        here.mkdir()
        submitted.append(await _submit(here / "data", asset, jobs))
        async with worker(here, "benchmarks.noop_worker:NoopWorker", {"Worker.Slots": 32}):
            finished.append(await _finish(here / "data", jobs))
    figures.line("submissions/s, 32 at a time, one process", figures.spread(submitted, ".0f"))
    figures.line("no-op jobs/s, 32 slots, one worker process", figures.spread(finished, ".0f"))


async def _submit(data: Path, asset: Path, jobs: int) -> float:
    async with connect({"ROLEHOST_DATA": str(data)}) as stores:
        submitter = Submitter(stores)

        async def some() -> None:
            for _ in range(jobs // 32):
                await submitter.submit(Submission(path=asset, name="asset", kind="noop"))

        since = clock.monotonic()
        await asyncio.gather(*(some() for _ in range(32)))
        return jobs // 32 * 32 / (clock.monotonic() - since)


async def _finish(data: Path, jobs: int) -> float:
    """From the first look to the last row; the worker is ready already, so the first few jobs are not counted."""
    async with connect({"ROLEHOST_DATA": str(data)}) as stores:
        table = JobTable(stores.table(TABLE))
        since, before = clock.monotonic(), (await table.counts())["failed"]

        async def done() -> bool:
            return (await table.counts())["failed"] >= jobs // 32 * 32

        await until(done, 120)
        return (jobs // 32 * 32 - before) / (clock.monotonic() - since)
