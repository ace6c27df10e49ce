"""Real workers, a kill every two seconds of any process of the service, thousands of jobs; then the verdict.

    make soak ARGS="--jobs 10000 --every 2"

The history is kept beside the data, for `python -m tests.support.history FILE`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import httpx2

from rolehost.jobs.job import Job, new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from support.history import Figures, check, read
from support.pictures import photograph
from support.service import Service, command_line, descendants, marked

LEASE = 5.0
RECOVERY = 2.0
MARGIN = 5.0
ACCEPTED = 202
"""Recovery takes a lease, an interval of recovery and this: the promise, at the 99th percentile."""
KIND = "soak"
STUCK = 180.0
"""Seconds without any change of any row after which the service counts as dead."""
WORKER_SETTINGS = f"""
"Worker.LeaseSeconds" = {LEASE:g}
"Worker.RetryBaseSeconds" = 0.2
"Worker.RetryMaxSeconds" = 2
"Worker.TermGraceSeconds" = 0.5
"Recovery.IntervalSeconds" = {RECOVERY:g}
"""
SERVICE = f"""
[service]
name = "soak"
drain_seconds = 5
recycle_seconds = 0.2

[roles.FrontEnd]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080

[roles.Soaker]
entry_point = "soaker:Soaker"
instances = 2
[roles.Soaker.settings]
"Worker.Slots" = 4
{WORKER_SETTINGS}
[roles.Soaker.local_resources.Scratch]
size_in_mb = 100

[roles.Thumbnails]
entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"
[roles.Thumbnails.settings]
"Worker.Slots" = 1
{WORKER_SETTINGS}
[roles.Thumbnails.local_resources.Scratch]
size_in_mb = 100
"""
INSTANCES = ("Soaker_IN_0", "Soaker_IN_1", "Thumbnails_IN_0", "FrontEnd_IN_0")
PICTURE_EVERY = 50
"""One job in so many is a picture that comes by the front end; the others come by the stores."""
WORKER = """
from pathlib import Path

from rolehost import ConsoleApp, ConsoleAppWorker


class Soaker(ConsoleAppWorker):
    kind = "soak"
    app = ConsoleApp(("sh", str(Path(__file__).with_name("work.sh")), "{source}", "{target}"))
"""
PROGRAM = """
read -r seconds < "$1"
sleep "$seconds"
exec tr a-z A-Z < "$1" > "$2"
"""


class History:
    """Writes events, one a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, event: str, **facts: Any) -> None:
        """Write one down."""
        self._file.write(json.dumps({"event": event, "at": time.time(), **facts}) + "\n")
        self._file.flush()


class Soak:
    """One run.

    Args:
        folder: where the service lives.
        options: `jobs`, `every`, `seed`.
    """

    def __init__(self, folder: Path, options: argparse.Namespace, history: History) -> None:
        self._options = options
        self._history = history
        self._chance = random.Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
        self._service = Service(folder)
        self._service.define(SERVICE)
        (folder / "soaker.py").write_text(WORKER)
        (folder / "work.sh").write_text(PROGRAM)
        self._told: dict[str, str] = {}
        self._calm = asyncio.Event()
        self._done = asyncio.Event()
        self._moved = time.monotonic()
        self._port = 0

    async def run(self) -> None:
        """Submit, kill, wait until everything is over; then look what is left."""
        await asyncio.to_thread(self._service.start)
        self._port = urlsplit(self._service.url).port or 0  # `up` is started again on the same one
        try:
            async with connect({"ROLEHOST_DATA": str(self._service.data)}) as stores:
                async with asyncio.TaskGroup() as tasks:
                    watching = tasks.create_task(self._watch(stores))
                    killing = tasks.create_task(self._kill())
                    await asyncio.gather(self._submit(stores), self._post())
                    while not await self._over(stores):  # noqa: ASYNC110 - rows are in other processes' hands
                        await asyncio.sleep(1)
                    self._calm.set()
                    await killing
                    await self._prepared()
                    self._done.set()
                    await watching
                await asyncio.to_thread(self._service.close)
                await self._leave(stores)
        finally:
            await asyncio.to_thread(self._service.close)

    async def _submit(self, stores: Stores) -> None:
        jobs = Submitter(stores)
        asset = self._service.directory / "asset"
        for number in range(self._options.jobs):
            if number % PICTURE_EVERY == 0:
                continue
            asset.write_text(f"{self._chance.choice((0, 0, 0.05, 0.3))}\n{new_id()}\n")
            job_id = new_id()
            self._history.add("asked", job=job_id)
            asked = Submission(path=asset, name="asset.txt", kind=KIND)
            await jobs.place(asked, job_id, {}, "text/plain")
            self._history.add("accepted", job=job_id)
            await asyncio.sleep(0.002)

    async def _post(self) -> None:
        """Pictures by the front end: a client repeats its request with the same key until it is answered."""
        content = await asyncio.to_thread(_picture, self._service.directory)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self._port}", timeout=10) as client:
            for _ in range(0, self._options.jobs, PICTURE_EVERY):
                key = new_id()
                while (job_id := await self._posted(client, key, content)) is None:  # noqa: ASYNC110 - by HTTP
                    await asyncio.sleep(0.2)
                self._history.add("accepted", job=job_id)

    async def _posted(self, client: httpx2.AsyncClient, key: str, content: bytes) -> str | None:
        try:
            answer = await client.post(
                "/api/v1/jobs", files={"file": ("photo.png", content, "image/png")}, headers={"Idempotency-Key": key}
            )
        except httpx2.HTTPError:
            return None
        return str(answer.json()["id"]) if answer.status_code == ACCEPTED else None

    async def _kill(self) -> None:
        """Any process of the service, `up` itself one time in twenty."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._calm.wait(), self._options.every)
                return
            process = self._service.process
            assert process is not None
            if process.poll() is not None or self._chance.random() < 0.05:
                process.kill()
                process.wait()
                for instance in INSTANCES:
                    self._history.add("killed", instance=instance, what="up")
                await asyncio.to_thread(self._service.start, port=self._port)
                continue
            victims = [pid for pid in descendants(process.pid) if command_line(pid)]
            if victims:
                victim = self._chance.choice(victims)
                told = {"instance": _instance(victim), "what": command_line(victim)[:80]}
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                self._history.add("killed", **told)

    async def _watch(self, stores: Stores) -> None:
        """Write down every row that has changed since the last look; the last look is after the end."""
        jobs = JobTable(stores.table(TABLE))
        over = False
        while not over:
            over = self._done.is_set()
            async for job in _all(jobs):
                if self._told.get(job.id) != job.version:
                    self._told[job.id] = job.version
                    self._moved = time.monotonic()
                    blob = job.result.blob if job.result else None
                    self._history.add("row", job=job.to_json(), blob=blob)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), 2)

    async def _over(self, stores: Stores) -> bool:
        if time.monotonic() - self._moved > STUCK:
            raise TimeoutError(f"no job moved for {STUCK:g} seconds; see {self._service.directory / 'up.log'}")
        counted = await JobTable(stores.table(TABLE)).counts()
        return not counted["queued"] and not counted["running"]

    async def _prepared(self) -> None:
        """Wait until the instances that were killed last are here again: their scratch directories are empty then."""
        deadline = time.monotonic() + STUCK
        while self._service.scratch() and time.monotonic() < deadline:  # noqa: ASYNC110 - files of other processes
            await asyncio.sleep(0.2)

    async def _leave(self, stores: Stores) -> None:
        """Collect what nobody names, and look at what is left then."""
        recovery = Recovery(stores, lease=LEASE)
        for _ in range(3 + self._options.jobs // 100):
            await recovery.sweep()
        results: dict[str, str] = {}
        cursor = None
        while True:
            page = await stores.blobs.list("results/", cursor=cursor)
            for name in page.names:
                results[name] = (await stores.blobs.facts(name)).sha256
            cursor = page.cursor
            if cursor is None:
                break
        dead = [
            message
            for kind in (KIND, "thumbnail")
            for message in await stores.queue(kind_named(kind).queue).peek(100_000, dead=True)
        ]
        self._history.add(
            "left",
            results=results,
            dead=[WakeUp.decode(message.body).job for message in dead],
            scratch=self._service.scratch(),
            processes=[f"{pid} {command_line(pid)[:60]}" for pid in marked(self._service.data)],
        )


async def _all(jobs: JobTable) -> Any:
    cursor = None
    while True:
        page = await jobs.list(limit=500, cursor=cursor)
        for job in page.jobs:
            found: Job = job
            yield found
        cursor = page.cursor
        if cursor is None:
            return


def _instance(pid: int) -> str:
    """Which instance a process belongs to: its environment tells, or the bootstrapper's own arguments."""
    words = command_line(pid).split()
    if "--instance" in words[:-1]:
        return words[words.index("--instance") + 1]
    with suppress(OSError):
        for variable in _variables(pid):
            name, _, value = variable.partition("=")
            if name == "RoleInstanceID":
                return value
    return ""


def _variables(pid: int) -> Iterator[str]:
    yield from Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")


def _picture(folder: Path) -> bytes:
    path = folder / "photo.png"
    photograph(path, megapixels=0.05)
    return path.read_bytes()


def soak(folder: Path, options: argparse.Namespace) -> Figures:
    """One run in a folder of its own; what its history shows.

    Args:
        folder: `history.jsonl` is written there.
        options: see `Soak`.
    """
    folder.chmod(0o755)  # console applications of a root's service run as nobody
    path = folder / "history.jsonl"
    with path.open("w") as file:
        asyncio.run(Soak(folder, options, History(file)).run())
    return check(read(path))


def main() -> int:
    """Run, and print the verdict; 1 if anything was lost, rewritten or left over, or recovered too late."""
    parser = argparse.ArgumentParser(
        prog="make soak", description="Kills processes of a service for as long as it works."
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311 - no secret
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rolehost-soak-"))
    sys.stdout.write(f"seed {options.seed}, in {folder}\n")
    figures = soak(folder, options)
    promise = LEASE + RECOVERY + MARGIN
    kept = figures.recovery.get("p99", 0.0) <= promise
    sys.stdout.write("\n".join(figures.lines()) + "\n")
    sys.stdout.write(f"recovery p99 within {promise:g} s: {'yes' if kept else 'no'}\n")
    return 0 if figures.sound and kept else 1


if __name__ == "__main__":
    sys.exit(main())
