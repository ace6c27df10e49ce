"""A program whose disk or descriptors are few: `python -m support.tight SCENARIO FOLDER`; prints what it saw, as JSON.

It is run in a mount namespace of its own, where the folder `small` becomes a file system of a megabyte. Where nobody
lets it mount one (a user without user namespaces), no file may grow beyond what such a disk would take.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rolehost.environment import RoleEnvironment
from rolehost.errors import StoreError
from rolehost.jobs.job import JobSpec
from rolehost.stores import Stores
from rolehost.workers import admission, queue_worker
from rolehost.workers.queue_worker import QueueWorker, _Loop
from rolehost.workers.scratch import Scratch
from support.front_end import front_end, picture
from support.jobs import KIND, Bench, open_bench, until

MEGABYTE = 1 << 20
MOST = 400


def small(folder: Path) -> tuple[Path, bool]:
    """A file system of a megabyte; whether it is one, or only files are kept small."""
    place = folder / "small"
    place.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return place, False
    return place, True


async def database(folder: Path) -> dict[str, Any]:
    """Post jobs until there is no room; make some; post one more."""
    place, mounted = small(folder)
    ballast = place / "ballast"
    ballast.write_bytes(bytes(200_000))
    seen: dict[str, Any] = {"mounted": mounted}
    async with front_end(place) as end:

        async def post() -> tuple[int, str]:
            files = {"file": ("a.png", picture(40, 30), "image/png")}
            answer = await end.client.post("/api/v1/jobs", files=files, data={"size": "Small"})
            return answer.status_code, answer.headers.get("location", "")

        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
        accepted, status = [], 0
        for _ in range(MOST):
            status, location = await post()
            if status != 202:
                break
            accepted.append(location)
        seen |= {"accepted": len(accepted), "refused_with": status}
        seen["readable"] = sum([(await end.client.get(each)).status_code == 200 for each in accepted])
        if mounted:
            fill(ballast)
            seen["row_refused"] = await refusal(end.stores)
        seen["integrity"] = integrity(place)
        ballast.unlink()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        seen["afterwards"] = (await post())[0]
        seen["jobs"] = (await end.jobs.counts())["queued"]
    return seen


async def refusal(stores: Stores) -> str:
    """Insert rows until one is refused; how."""
    for number in range(MOST):
        try:
            await stores.table("notes").insert(f"{number}", {"text": "x" * 5000})
        except StoreError as error:
            return type(error).__name__
    return ""


def integrity(place: Path) -> str:
    """What SQLite says of the database."""
    (found,) = [each for each in place.rglob("*.sqlite*") if each.suffix in {".sqlite", ".sqlite3"}] or list(
        place.rglob("*.db")
    )
    with sqlite3.connect(f"file:{found}?mode=ro", uri=True) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def fill(ballast: Path) -> None:
    """Take all the room there is; an attempt that is over may give some back yet."""
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(10_000))


class Greedy(QueueWorker):
    """Writes two megabytes where there is one, until it is told that there are more."""

    kind = KIND
    wants = 2 * MEGABYTE

    async def process(self, job: JobSpec, scratch: Scratch) -> Path:
        del job
        result = scratch.folder / "result.bin"
        try:
            result.write_bytes(bytes(self.wants))
        except OSError as error:
            error.errno = errno.ENOSPC  # as a disk says; a limit on the size of files says EFBIG
            raise
        return result


async def scratch(folder: Path) -> dict[str, Any]:
    """An attempt fills the disk; then the disk is full beforehand; then there is room."""
    place, mounted = small(folder)
    admission.LOOK_EVERY = queue_worker.LOOK_EVERY = 0.05
    async with open_bench(folder, disk_floor=300_000 if mounted else 0) as bench:
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, resource.RLIM_INFINITY))
        (bench.root).rmdir()
        bench.root.symlink_to(place)
        worker = Greedy()
        job = await bench.submit()
        async with looping(bench, worker):
            await until(lambda: ended(bench, job.id, 2))
            ballast = place / "ballast"
            if mounted:

                async def paused() -> bool:
                    alone = [each.name for each in place.iterdir()] in ([], ["ballast"])
                    await asyncio.to_thread(fill, ballast)
                    return alone and len(bench.told("worker.paused")) > len(bench.told("worker.resumed"))

                await until(paused)
            Greedy.wants = 10_000
            claims = len((await bench.row(job.id)).attempts)
            other = await bench.submit()
            await asyncio.sleep(0.3)
            waited = (await bench.row(other.id)).state == "queued"
            ballast.unlink(missing_ok=True)
            await until(lambda: completed(bench, other.id))
            await until(lambda: completed(bench, job.id))
        row = await bench.row(job.id)
        return {
            "mounted": mounted,
            "ends": sorted({str(each.end) for each in row.attempts[:claims]}),
            "charges": row.charges.to_json(),
            "waited": waited or not mounted,
            "resumed": bool(bench.told("worker.resumed")) or not mounted,
            "left": sorted(each.name for each in place.iterdir()),
        }


async def descriptors(folder: Path) -> dict[str, Any]:
    """64 descriptors: first none of them is left, then some are."""
    admission.LOOK_EVERY = queue_worker.LOOK_EVERY = 0.05
    Greedy.wants = 1000
    async with open_bench(folder, slots=2, disk_floor=0) as bench:
        jobs = [await bench.submit() for _ in range(6)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held: list[int] = []
        with suppress(OSError):
            while True:
                held.append(os.dup(0))
        async with looping(bench, Greedy()):
            await until(lambda: told(bench, "worker.paused"))
            claimed_without = bool(bench.told("job.claimed"))
            for each in held:
                os.close(each)
            for job in jobs:
                await until(partial(completed, bench, job.id))
        rows = [await bench.row(job.id) for job in jobs]
        return {
            "claimed_without": claimed_without,
            "charges": [row.charges.to_json() for row in rows if any(row.charges.to_json().values())],
            "attempts": [len(row.attempts) for row in rows],
            "why": bench.told("worker.paused")[0]["why"],
            "resumed": len(bench.told("worker.resumed")),
            "left": sorted(each.name for each in bench.root.iterdir()),
        }


class looping:  # noqa: N801 - reads as the function that it stands for
    """A worker's loop at work."""

    def __init__(self, bench: Bench, worker: QueueWorker) -> None:
        worker.role_environment = RoleEnvironment.for_testing()
        worker._settings = bench.desk.settings
        self._stopping = asyncio.Event()
        self._loop = _Loop(worker, bench.desk, bench.root)

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._loop.work(self._stopping))

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await self._task


async def ended(bench: Bench, job: str, attempts: int) -> bool:
    return sum(each.end is not None for each in (await bench.row(job)).attempts) >= attempts


async def completed(bench: Bench, job: str) -> bool:
    return (await bench.row(job)).state == "completed"


async def told(bench: Bench, event: str) -> bool:
    return bool(bench.told(event))


SCENARIOS: dict[str, Callable[[Path], Awaitable[dict[str, Any]]]] = {
    "database": database,
    "scratch": scratch,
    "descriptors": descriptors,
}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(asyncio.wait_for(SCENARIOS[sys.argv[1]](Path(sys.argv[2])), 60))))  # noqa: T201 - the answer
