"""Who does the same jobs on the same kind of Azurite: a worker of rolehost, and one of Celery."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.emulator import DELETED, ROOT
from benchmarks.service import running, worker
from rolehost.jobs.submission import Submission, Submitter
from rolehost.stores.connect import connect

if TYPE_CHECKING:
    from support.azurite import Azurite

CELERY = ROOT / ".venv-bench" / "bin" / "python"
APPLICATION = ROOT / "legacy_bin" / "thumbnail"
AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done.

    Args:
        folder: of this run alone.
        jobs: how many.
        slots: how many at a time.
        pictures: what thumbnails are made of, again and again; none: the jobs do nothing.
    """

    folder: Path
    jobs: int
    slots: int
    pictures: Sequence[Path] = ()

    def source(self, number: int, otherwise: Path) -> Path:
        """The input of a job."""
        return self.pictures[number % len(self.pictures)] if self.pictures else otherwise


class Contender(Protocol):
    """One side of a comparison."""

    @property
    def name(self) -> str:
        """For the report."""

    async def submit(self, azurite: Azurite, work: Work) -> None:
        """Put all jobs into the queue."""

    def working(self, azurite: Azurite, work: Work) -> AbstractAsyncContextManager[int]:
        """One worker, for a block, which gets its process's id."""

    def done(self, work: Work, requests: Counter[str]) -> int:
        """How many jobs are done."""


@dataclass(frozen=True, slots=True)
class Rolehost:
    """rolehost: the input in a blob, the row, the lease, the result in a blob. Done is what has its row and no message.

    Args:
        name: for the report.
        warm: whether console applications start warm, as they do unless told otherwise.
    """

    name: str
    warm: bool = True

    async def submit(self, azurite: Azurite, work: Work) -> None:
        """By `Submitter`, some at a time."""
        nothing = work.folder / "nothing"
        nothing.write_bytes(b"nothing")
        numbers = iter(range(work.jobs))
        kind, given = ("thumbnail", {"size": "Medium"}) if work.pictures else ("noop", {})
        async with connect({"ROLEHOST_STORAGE": azurite.connection()}) as stores:
            submitter = Submitter(stores)

            async def some() -> None:
                for number in numbers:
                    path = work.source(number, nothing)
                    await submitter.submit(Submission(path=path, name=path.name, kind=kind, given=given))

            await asyncio.gather(*(some() for _ in range(AT_ONCE)))

    def working(self, azurite: Azurite, work: Work) -> AbstractAsyncContextManager[int]:
        """`rolehost up` with one role of one instance."""
        noop = "benchmarks.noop_worker:EmptyWorker"
        entry_point = "rolehost.workers.thumbnail:ThumbnailWorker" if work.pictures else noop
        settings = {"Worker.Slots": work.slots, "Worker.WarmStart": str(self.warm).lower()}
        return worker(work.folder, entry_point, settings, {"ROLEHOST_STORAGE": azurite.connection()})

    def done(self, work: Work, requests: Counter[str]) -> int:
        """A message is deleted when its job's row has the end."""
        del work
        return requests[DELETED]


@dataclass(frozen=True, slots=True)
class Celery:
    """Celery with a pool of threads: no row, no result, inputs and outputs in local files. Done is what has returned.

    Args:
        name: for the report.
        poll: seconds between two looks at an empty queue, and no control messages; None: all as it comes.
    """

    name: str
    poll: float | None = None

    async def submit(self, azurite: Azurite, work: Work) -> None:
        """By `apply_async`, one after the other."""
        process = await asyncio.create_subprocess_exec(
            *(str(CELERY), "-m", "benchmarks.celery_app"),
            stdin=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **self._environ(azurite, work)},
        )
        await process.communicate(json.dumps(list(_calls(work))).encode())
        if process.returncode:
            raise RuntimeError("Celery could not send")

    def working(self, azurite: Azurite, work: Work) -> AbstractAsyncContextManager[int]:
        """`celery worker` with its pool of threads: one process, as rolehost's."""
        self._marks(work).touch()
        argv = [str(CELERY), "-m", "celery", "--app", "benchmarks.celery_app", "worker", "--loglevel", "WARNING"]
        argv += ["--pool", "threads", "--concurrency", str(work.slots)]
        return running(argv, work.folder / "log", self._environ(azurite, work))

    def done(self, work: Work, requests: Counter[str]) -> int:
        """A byte for each; a message is deleted long before."""
        del requests
        return self._marks(work).stat().st_size

    def _marks(self, work: Work) -> Path:
        return work.folder / "marks"

    def _environ(self, azurite: Azurite, work: Work) -> dict[str, str]:
        parts = dict(part.split("=", 1) for part in azurite.connection().split(";") if part)
        broker = f"azurestoragequeues://{parts['AccountKey']}@{parts['QueueEndpoint']}"
        poll = {} if self.poll is None else {"BENCH_POLL": str(self.poll)}
        return {"BENCH_BROKER": broker, "BENCH_MARKS": str(self._marks(work)), **poll}


def _calls(work: Work) -> Sequence[tuple[str, Sequence[object]]]:
    if not work.pictures:
        return [("noop", ())] * work.jobs
    program = [sys.executable, str(APPLICATION)]
    made = [(str(work.source(number, work.folder)), str(work.folder / f"{number}.jpg")) for number in range(work.jobs)]
    return [("run", ([*program, source, target, "Medium"],)) for source, target in made]
