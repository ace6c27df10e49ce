"""The front end alone: on a free port of this process, over embedded stores, with jobs in every state."""

from __future__ import annotations

import asyncio
import io
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image, ImageDraw

from rolehost import clock
from rolehost.frontend.app import create_app
from rolehost.frontend.authentication.authenticator import Authenticator
from rolehost.frontend.hosts import allowed_hosts
from rolehost.frontend.server import serve
from rolehost.frontend.settings import FrontendSettings
from rolehost.frontend.spool import Spool
from rolehost.jobs.job import End, Job, Result
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, Claim, JobTable, new_token
from rolehost.stores import Stores
from rolehost.stores.connect import connect

GOOD_FORM = {"size": "Small"}


@dataclass
class FrontEnd:
    """A front end that listens.

    Args:
        url: where.
        port: the port of it.
        stores: what it works on.
        spool: where uploads wait.
        client: talks to it.
    """

    url: str
    port: int
    stores: Stores
    spool: Path
    client: httpx2.AsyncClient

    @property
    def jobs(self) -> JobTable:
        return JobTable(self.stores.table(TABLE))

    def spooled(self) -> list[Path]:
        return [path for path in self.spool.rglob("*") if path.is_file() and path.suffix != ".lock"]


@asynccontextmanager
async def front_end(
    data: Path,
    settings: FrontendSettings | None = None,
    probe: str | None = None,
    instance: str = "",
    guard: Authenticator | None = None,
) -> AsyncIterator[FrontEnd]:
    """A front end over a data directory."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    stopping = asyncio.Event()
    settings = settings or FrontendSettings()
    spool = Spool(data / "spool")
    try:
        async with connect({"ROLEHOST_DATA": str(data)}) as stores:
            hosts = allowed_hosts(settings.allowed_hosts, "127.0.0.1")
            app = create_app(stores, spool, settings=settings, probe=probe, hosts=hosts, instance=instance, guard=guard)
            serving = asyncio.create_task(serve(app, listening, stopping, settings))
            try:
                async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                    yield FrontEnd(f"http://127.0.0.1:{port}", port, stores, data / "spool", client)
            finally:
                stopping.set()
                await serving
    finally:
        spool.close()


async def until(holds: Callable[[], object], seconds: float = 10) -> None:
    """Wait for what no event tells."""
    deadline = clock.monotonic() + seconds
    while not holds():
        assert clock.monotonic() < deadline, "it never came to be"
        await asyncio.sleep(0.01)


def picture(width: int = 320, height: int = 240, kind: str = "PNG", hue: int = 210) -> bytes:
    """A picture with something to see: hills under a sky."""
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    for y in range(height):
        share = y / height
        draw.line([(0, y), (width, y)], fill=_colour(hue, 0.55 - 0.35 * share, 0.75 + 0.25 * share))
    draw.ellipse(
        [width * 0.62, height * 0.16, width * 0.62 + height * 0.22, height * 0.38],
        fill=_colour((hue + 190) % 360, 0.4, 1),
    )
    for level, dark in ((0.55, 0.65), (0.7, 0.45), (0.84, 0.28)):
        hills = [(x, height * level + height * 0.09 * _wave(x / width * 9 + level * 20)) for x in range(width + 1)]
        draw.polygon([(0, height), *hills, (width, height)], fill=_colour((hue - 90) % 360, 0.5, dark))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def _wave(x: float) -> float:
    whole, rest = divmod(x, 2)
    return 4 * rest * (2 - rest) / 2 - 1 if whole % 2 else 1 - 4 * rest * (2 - rest) / 2


def _colour(hue: int, saturation: float, value: float) -> tuple[int, int, int]:
    image = Image.new("HSV", (1, 1), (round(hue % 360 / 360 * 255), round(saturation * 255), round(value * 255)))
    pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


class Seed:
    """Makes jobs in any state by the transitions that workers make.

    Args:
        stores: where.
        folder: for the files.
    """

    def __init__(self, stores: Stores, folder: Path) -> None:
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._submitter = Submitter(stores)
        self._folder = folder

    async def queued(
        self, name: str = "hills.png", content: bytes | None = None, *, kind: str = "thumbnail", **given: str
    ) -> Job:
        path = self._folder / os.urandom(8).hex()
        path.write_bytes(picture() if content is None else content)
        return await self._submitter.submit(Submission(path=path, name=name, kind=kind, given=given))

    async def running(self, job: Job) -> Claim:
        current = await self.read(job)
        return await self._jobs.claim(
            job.spec,
            current.version,
            number=current.attempt + 1,
            charges=current.charges,
            instance="ThumbnailBackend_IN_0",
            lease=60,
            token=new_token(),
        )

    async def completed(self, job: Job, content: bytes | None = None, kind: str = "image/png", **output: Any) -> Job:
        claim = await self.running(job)
        blob = f"results/{job.id}/{claim.attempt.number}-{claim.token}/thumbnail"
        facts = await self._stores.blobs.put(blob, picture(128, 96) if content is None else content)
        source = Path(job.spec.source.name)
        name = f"{source.stem}-small.png" if job.spec.kind == "thumbnail" else f"{source.stem}-made{source.suffix}"
        result = Result(name=name, size=facts.size, sha256=facts.sha256, type=kind, blob=blob)
        ended = replace(claim.attempt, ended_at=clock.now() + timedelta(seconds=0.4), end=End.OK, exit_code=0, **output)
        await self._jobs.complete(claim, ended, result)
        return await self.read(job)

    async def retried(self, job: Job, end: End = End.APP_ERROR, exit_code: int = 3, **output: Any) -> Job:
        claim = await self.running(job)
        ended = replace(claim.attempt, ended_at=clock.now(), end=end, exit_code=exit_code, **output)
        await self._jobs.retry(claim, ended, retries_at=clock.now() + timedelta(seconds=16))
        return await self.read(job)

    async def failed(self, job: Job, reason: str, **output: Any) -> Job:
        claim = await self.running(job)
        ended = replace(claim.attempt, ended_at=clock.now(), end=End.BAD_INPUT, exit_code=65, **output)
        await self._jobs.fail(claim, ended, reason=reason)
        return await self.read(job)

    async def poisoned(self, job: Job, reason: str, attempts: int = 1, **output: Any) -> Job:
        for _ in range(attempts - 1):
            await self.retried(job, **output)
        claim = await self.running(job)
        ended = replace(claim.attempt, ended_at=clock.now(), end=End.APP_ERROR, exit_code=3, **output)
        await self._jobs.poison(job.id, claim.version, ended, reason=reason)
        return await self.read(job)

    async def cancelled(self, job: Job) -> Job:
        await self._jobs.cancel(await self.read(job), reason="cancelled on request")
        return await self.read(job)

    async def read(self, job: Job) -> Job:
        found = await self._jobs.read(job.id)
        assert found is not None
        return found


async def seed_all(stores: Stores, folder: Path) -> dict[str, Job]:
    """A job in every state, with names and output as they come in life."""
    seed = Seed(stores, folder)
    cancelled = await seed.cancelled(await seed.queued("scan 0004.tif.png"))
    failed = await seed.failed(
        await seed.queued("truncated.jpg", picture(kind="JPEG")),
        "the picture is damaged: it ends before its last rows",
        stderr="thumbnail: truncated.jpg: image file is truncated (3 bytes not processed)\n",
    )
    poisoned = await seed.poisoned(
        await seed.queued("Ferien/Übersicht <b>2019</b> mit einem sehr langen Namen, der nirgends hineinpasst.png"),
        "spent its 5 charges for errors of the application; the last: exit code 3\nTraceback: no space on /dev/full",
        5,
        stderr='Traceback (most recent call last):\n  File "tool"\n\x1b[31mOSError: <script>alert(1)</script>\x1b[0m\n',
        stdout="opening the picture\nwriting the thumbnail\n",
    )
    jobs = {"cancelled": cancelled, "failed": failed, "poisoned": poisoned}
    for number, hue in enumerate((20, 140, 265, 330)):
        job = await seed.queued(
            f"DSC_{4410 + number}.jpg", picture(1200, 800 + 200 * number, "JPEG", hue), size="Small"
        )
        jobs["completed"] = await seed.completed(
            job, picture(128, 85 + 20 * number, hue=hue), stdout="1200x800 JPEG -> 128x85 PNG\n"
        )
    jobs["waiting"] = await seed.retried(
        await seed.queued("portrait.webp", picture(300, 420, "WEBP", 5)), stderr="busy\n"
    )
    running = await seed.queued("panorama.png", picture(900, 220, hue=190), size="Custom", width="640", height="480")
    await seed.running(running)
    jobs["running"] = await seed.read(running)
    jobs["queued"] = await seed.queued("hills.png", format="webp")
    return jobs


async def seed_other_kinds(stores: Stores, folder: Path) -> dict[str, Job]:
    """Jobs of a kind of the user's own, which takes and makes text."""
    seed = Seed(stores, folder)
    text = b"the quick brown fox\n" * 40
    jobs = {
        "poisoned": await seed.poisoned(
            await seed.queued("letter.txt", text, kind="shout"), "spent its 5 charges; the last: exit code 3", 2
        ),
        "failed": await seed.failed(
            await seed.queued("empty words.txt", text, kind="shout", loudness="11"), "no word was found"
        ),
        "running": await seed.queued("speech.md", text, kind="shout", loudness="7", greeting="Hello, <b>world</b>"),
    }
    await seed.running(jobs["running"])
    for name, kind in (("plain", "text/plain"), ("unknown", "application/octet-stream")):
        job = await seed.queued(f"{name}.txt", text, kind="shout", loudness="11", language="en" * 300)
        jobs[name] = await seed.completed(job, text.upper(), kind=kind)
    return jobs
