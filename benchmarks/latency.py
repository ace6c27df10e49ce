"""From the submission's call to the start of the work, at low load, across two processes."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import figures
from benchmarks.service import until, worker
from rolehost.jobs.job import JobState
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores.connect import connect


async def run(folder: Path, jobs: int) -> None:
    """Print the median and the 99th percentile, from the call and from its answer."""
    place = folder / "latency"
    place.mkdir()
    asset = place / "asset"
    asset.write_bytes(b"nothing")
    from_call: list[float] = []
    from_answer: list[float] = []
    async with (
        worker(place, "benchmarks.noop_worker:StampWorker", {"Worker.Slots": 2}),
        connect({"ROLEHOST_DATA": str(place / "data")}) as stores,
    ):
        table, submitter = JobTable(stores.table(TABLE)), Submitter(stores)
        for _ in range(jobs):
            called = time.monotonic_ns()
            job = await submitter.submit(Submission(path=asset, name="asset", kind="stamp"))
            answered = time.monotonic_ns()

            async def done(job_id: str = job.id) -> bool:
                found = await table.read(job_id)
                return found is not None and found.state is JobState.COMPLETED

            await until(done, 10)
            found = await table.read(job.id)
            if found is None or found.result is None:
                raise RuntimeError("a completed job has a result")
            started = int(b"".join([piece async for piece in stores.blobs.stream(found.result.blob)]))
            from_call.append((started - called) / 1e6)
            from_answer.append((started - answered) / 1e6)
    for what, values in (("call", from_call), ("answer", from_answer)):
        figures.line(
            f"submission's {what} to start of work, p50 / p99 ms",
            f"{figures.percentile(values, 0.5):.2f} / {figures.percentile(values, 0.99):.2f}",
        )
