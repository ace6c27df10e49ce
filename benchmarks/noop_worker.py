"""Workers that do nothing: what remains is rolehost's own cost."""

from __future__ import annotations

import time
from pathlib import Path

from rolehost.jobs.job import End, JobSpec
from rolehost.workers.outcome import Outcome
from rolehost.workers.queue_worker import QueueWorker
from rolehost.workers.scratch import Scratch


class NoopWorker(QueueWorker):
    """Fails each job at once as bad input: a claim, a download and a terminal row, without a result blob."""

    kind = "noop"

    async def attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        """Nothing, on the infrastructure loop."""
        del job, scratch
        return Outcome(end=End.BAD_INPUT, detail="no-op")


class StampWorker(QueueWorker):
    """Writes the monotonic clock at its start: the same clock for all processes of a machine."""

    kind = "stamp"

    async def attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        """The moment of the start, as the result."""
        del job
        path = Path(scratch.folder, "stamp.txt")
        path.write_text(str(time.monotonic_ns()))  # noqa: ASYNC240 - twenty bytes, and a thread would be measured too
        return Outcome(end=End.OK, result=path, result_name="stamp.txt")


class EmptyWorker(QueueWorker):
    """As little as a job can do that is completed: a result of a few bytes."""

    kind = "noop"

    def process(self, job: JobSpec, scratch: Scratch) -> Path:
        """The result, in a thread as all user code."""
        del job
        path = Path(scratch.folder, "nothing.txt")
        path.write_bytes(b"nothing")
        return path
