"""The whole service on Azure Storage (its emulator): workers are killed, the storage is restarted, nothing is lost."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.azurite import KEY, Azurite
from support.pictures import photograph
from support.service import Service, until

pytestmark = pytest.mark.acceptance

JOBS = 40
SERVICE = """
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
"Worker.LeaseSeconds" = 4
"Worker.RetryBaseSeconds" = 0.2
"Worker.RetryMaxSeconds" = 2
"Recovery.IntervalSeconds" = 1
[roles.Backend.local_resources.Scratch]
size_in_mb = 200
"""


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Azurite]:
    (tmp_path / "storage").mkdir()
    azurite = Azurite(location=tmp_path / "storage").start()
    yield azurite
    azurite.stop()


@pytest.fixture
def service(tmp_path: Path, storage: Azurite) -> Iterator[Service]:
    service = Service(tmp_path, {"ROLEHOST_STORAGE": storage.connection()})
    service.define(SERVICE)
    service.start()
    yield service
    service.close()


def test_workers_are_killed_and_the_storage_is_restarted(service: Service, storage: Azurite, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(JOBS):
        photograph(pictures / f"{number:02}.jpg", megapixels=0.1)
    submitted = service.command("submit", pictures, "--size", "Small", "--json")
    assert submitted.returncode == 0, submitted.stdout
    for turn in range(3):
        until(lambda: service.pids("role_process rolehost.workers"), "a worker")
        os.kill(service.pids("role_process rolehost.workers")[-1], signal.SIGKILL)
        time.sleep(1.5)  # let the other one get on with it
        if turn == 1:
            storage.stop()
            time.sleep(1.0)
            storage.start()
    done = until(lambda: _completed(service), "all jobs are completed", 240)
    assert len(done) == JOBS
    results = {job: hashlib.sha256(service.get(f"/api/v1/jobs/{job}/result")).hexdigest() for job in done}
    assert results == done, "what is downloaded is what the row names"
    for attempt in itertools.chain.from_iterable(job["attempts"] for job in service.jobs()):
        assert attempt["end"] in {"ok", "worker_lost", "lease_lost", "store_error", "drained"}
    assert KEY[:20] not in service.log()


def _completed(service: Service) -> dict[str, str]:
    jobs = service.jobs()
    assert not [job for job in jobs if job["state"] in {"failed", "poisoned", "cancelled"}]
    completed = {job["id"]: job["result"]["sha256"] for job in jobs if job["state"] == "completed"}
    return completed if len(completed) == JOBS else {}
