"""Real workers, a kill every two seconds of any process of the service, thousands of jobs; then the verdict.

    make soak ARGS="--jobs 10000 --every 2"

The history is kept beside the data, for `python -m tests.support.history FILE`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import httpx2

from rolehost.errors import StoreError
from rolehost.jobs.job import new_id
from rolehost.jobs.submission import Submission, Submitter
from rolehost.stores import Stores
from support.chronicle import Chronicle
from support.engines import ENGINES
from support.history import Figures, check, read
from support.pictures import photograph
from support.service import Service, command_line, descendants

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


class Soak:
    """One run.

    Args:
        folder: where the service lives.
        options: `jobs`, `every`, `seed`, `engine`.
        file: takes the history.
    """

    _history: Chronicle

    def __init__(self, folder: Path, options: argparse.Namespace, file: TextIO) -> None:
        self._options = options
        self._file = file
        self._engine = next(each for each in ENGINES if each.name == options.engine)
        self._chance = random.Random(options.seed)  # noqa: S311 - to be repeated, not to be secret
        self._service = Service(folder, self._engine.environ(folder))
        self._service.define(SERVICE)
        (folder / "soaker.py").write_text(WORKER)
        (folder / "work.sh").write_text(PROGRAM)
        self._calm = asyncio.Event()
        self._done = asyncio.Event()
        self._port = 0

    async def run(self) -> None:
        """Submit, kill, wait until everything is over; then look what is left."""
        await asyncio.to_thread(self._service.start)
        self._port = urlsplit(self._service.url).port or 0  # `up` is started again on the same one
        try:
            async with self._engine.open(self._service.directory) as stores:
                self._history = Chronicle(self._file, stores)
                async with asyncio.TaskGroup() as tasks:
                    watching = tasks.create_task(self._history.watch(self._done))
                    killing = tasks.create_task(self._kill())
                    await asyncio.gather(self._submit(stores), self._post())
                    while not self._over():  # noqa: ASYNC110 - rows are in other processes' hands
                        await asyncio.sleep(1)
                    self._calm.set()
                    await killing
                    await self._prepared()
                    self._done.set()
                    await watching
                await asyncio.to_thread(self._service.close)
                await self._history.leave(self._service, (KIND, "thumbnail"), lease=LEASE)
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
            try:
                await jobs.place(asked, job_id, {}, "text/plain")
            except StoreError:  # not answered: whether it is there or not, nobody was promised anything
                continue
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

    def _over(self) -> bool:
        if time.monotonic() - self._history.moved > STUCK:
            raise TimeoutError(f"no job moved for {STUCK:g} seconds; see {self._service.directory / 'up.log'}")
        return not self._history.open

    async def _prepared(self) -> None:
        """Wait until the instances that were killed last are here again: their scratch directories are empty then."""
        deadline = time.monotonic() + STUCK
        while self._service.scratch() and time.monotonic() < deadline:  # noqa: ASYNC110 - files of other processes
            await asyncio.sleep(0.2)


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
        asyncio.run(Soak(folder, options, file).run())
    return check(read(path))


def main() -> int:
    """Run, and print the verdict; 1 if anything was lost, rewritten or left over, or recovered too late."""
    parser = argparse.ArgumentParser(
        prog="make soak", description="Kills processes of a service for as long as it works."
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))  # noqa: S311 - no secret
    parser.add_argument("--engine", choices=[each.name for each in ENGINES], default="embedded")
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
