"""The whole service on Azure Storage (its emulator): workers are killed, the storage is restarted, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from rolehost.jobs.job import new_id
from rolehost.stores.connect import connect
from support.azurite import KEY, Azurite
from support.chronicle import Chronicle
from support.history import check, read
from support.pictures import photograph
from support.service import Service, command_line

pytestmark = pytest.mark.acceptance

JOBS = 500
AT_ONCE = 8
LEASE = 4.0
KILLS_EVERY = 4.0
AWAY = 1.0
"""Seconds between the storage's end and its next start."""
PATIENCE = 300.0
SERVICE = f"""
[service]
name = "thumbnails"
recycle_seconds = 0.2

[roles.FrontEnd]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080

[roles.Backend]
entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"
instances = 2
[roles.Backend.settings]
"Worker.Slots" = 2
"Worker.LeaseSeconds" = {LEASE:g}
"Worker.RetryBaseSeconds" = 0.2
"Worker.RetryMaxSeconds" = 2
"Recovery.IntervalSeconds" = 1
[roles.Backend.local_resources.Scratch]
size_in_mb = 200
"""


async def test_workers_are_killed_and_the_storage_is_restarted(tmp_path: Path) -> None:
    """Five hundred jobs by the front end; every change of every row is written down, and judged."""
    (tmp_path / "storage").mkdir()
    picture = tmp_path / "photo.png"
    photograph(picture, megapixels=0.01)
    storage = await asyncio.to_thread(Azurite(location=tmp_path / "storage").start)
    try:
        async with _service(tmp_path, storage) as service, connect(_environ(tmp_path, storage)) as stores:
            with (tmp_path / "history").open("w") as file:
                told = Chronicle(file, stores, every=5)
                await _work(service, storage, told, picture.read_bytes())
                await asyncio.to_thread(service.close)
                await told.leave(service, ["thumbnail"], lease=LEASE)
        figures = check(read(tmp_path / "history"))
        assert figures.sound, list(figures.lines())
        last = {event["job"]["id"]: event["job"] for event in read(tmp_path / "history") if event["event"] == "row"}
        assert [job for job in last.values() if job["state"] != "completed"] == []
        assert (figures.ran["jobs"], figures.ran["completed"]) == (JOBS, JOBS)
        assert figures.ran["kills"] > 1
        assert KEY[:20] not in service.log()
    finally:
        storage.stop()


@asynccontextmanager
async def _service(folder: Path, storage: Azurite) -> AsyncIterator[Service]:
    await asyncio.to_thread(folder.chmod, 0o755)  # console applications of a root's service run as nobody
    service = Service(folder, {"ROLEHOST_STORAGE": storage.connection()})
    service.define(SERVICE)
    try:
        await asyncio.to_thread(service.start)
        yield service
    finally:
        await asyncio.to_thread(service.close)


def _environ(folder: Path, storage: Azurite) -> dict[str, str]:
    return {"ROLEHOST_STORAGE": storage.connection(), "ROLEHOST_DATA": str(folder / "data")}


async def _work(service: Service, storage: Azurite, told: Chronicle, picture: bytes) -> None:
    done, calm = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        tasks.create_task(told.watch(done))
        tasks.create_task(_kill(service, told, calm))
        posting = tasks.create_task(_post(service, told, picture))
        restarting = tasks.create_task(_restart(storage, told))
        await asyncio.wait([posting, restarting])
        calm.set()
        while told.open:  # noqa: ASYNC110 - rows are in other processes' hands
            await asyncio.sleep(0.2)
        done.set()


async def _kill(service: Service, told: Chronicle, calm: asyncio.Event) -> None:
    """One of the two workers' role processes, every few seconds, in turn."""
    turn = 0
    while not calm.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(calm.wait(), KILLS_EVERY)
        workers = await asyncio.to_thread(service.pids, "role_process rolehost.workers")
        if workers:
            victim, turn = workers[turn % len(workers)], turn + 1
            told.add("killed", instance="", what=command_line(victim))
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)


async def _restart(storage: Azurite, told: Chronicle) -> None:
    """Once, when some jobs are over and others are not; what was acknowledged is there again."""
    while told.over < JOBS // 5:  # noqa: ASYNC110 - rows are in other processes' hands
        await asyncio.sleep(0.1)
    await asyncio.to_thread(storage.stop)
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(storage.start)


async def _post(service: Service, told: Chronicle, picture: bytes) -> None:
    """A client repeats its request with the same key until it is answered."""
    left = iter(range(JOBS))

    async def one_after_the_other(client: httpx2.AsyncClient) -> None:
        for _ in left:
            headers = {"Idempotency-Key": new_id()}
            while True:
                with suppress(httpx2.HTTPError):
                    files = {"file": ("photo.png", picture, "image/png")}
                    answer = await client.post("/api/v1/jobs", files=files, headers=headers)
                    if answer.status_code == httpx2.codes.ACCEPTED:
                        told.add("accepted", job=answer.json()["id"])
                        break
                    assert answer.status_code in {409, 503}, answer.text
                await asyncio.sleep(0.3)

    async with httpx2.AsyncClient(base_url=service.url, timeout=15) as client:
        await asyncio.gather(*(one_after_the_other(client) for _ in range(AT_ONCE)))
