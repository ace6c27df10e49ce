"""A program that rewrites one line of percents, in a real worker: the row follows it, at the price of a few writes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rolehost import clock
from rolehost.jobs.job import new_id
from rolehost.jobs.submission import Submission, Submitter
from support.engines import AZURITE, EMBEDDED, Engine, on_engines
from support.service import Service, until

pytestmark = pytest.mark.acceptance

LEASE = 6.0
# Half a minute from 0 to 99; a second run is short.
PROGRAM = r"""
if [ -e "{folder}/again" ]; then cp "$0" "$1"; exit 0; fi
touch "{folder}/again"
n=0
while [ $n -lt 990 ]; do
    n=$((n + 1))
    printf '\r[####      ] %d.%d%%' $((n / 10)) $((n % 10)) >&2
    sleep 0.03
done
"""
ROLES = r"""
import os, re
from contextlib import asynccontextmanager
from pathlib import Path

from rolehost import ConsoleApp, ConsoleAppWorker
from rolehost.frontend.role import ThumbnailFrontend as FrontEnd
from rolehost.stores.connect import connect
from rolehost.testing import Faults, FaultyStores
from rolehost.workers import queue_worker
from rolehost.workers.progress import PatternProgress

HERE = Path(__file__).parent


class Calls(Faults):
    async def around(self, call, work):
        with (HERE / "calls").open("a") as calls:
            calls.write(f"{os.getpid()} {call}\n")
        return await super().around(call, work)


@asynccontextmanager
async def connected(environ):
    async with connect(environ) as stores:
        yield FaultyStores(stores, Calls())


queue_worker.connect = connected


class Worker(ConsoleAppWorker):
    kind = "script"
    app = ConsoleApp(
        ("sh", "{source}", "{target}"), progress=PatternProgress(re.compile(r"(?P<percent>\d+\.\d)%"))
    )
"""
SERVICE = f"""
[service]
name = "progress"
drain_seconds = 5
recycle_seconds = 0.2

[roles.FrontEnd]
entry_point = "roles:FrontEnd"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080

[roles.Worker]
entry_point = "roles:Worker"
[roles.Worker.settings]
"Worker.Slots" = 1
"Worker.LeaseSeconds" = {LEASE:g}
"Worker.PollSeconds" = 0.5
"Recovery.IntervalSeconds" = 300  # a killed worker's job is found by its own message
[roles.Worker.local_resources.Scratch]
size_in_mb = 200
"""


@pytest.fixture
def service(tmp_path: Path, engine: Engine) -> Iterator[Service]:
    (tmp_path / "roles.py").write_text(ROLES)
    service = Service(tmp_path, engine.environ(tmp_path))
    service.define(SERVICE)
    try:
        service.start()
        yield service
    finally:
        service.close()


async def submitted(service: Service, engine: Engine) -> str:
    asset = service.directory / "program.sh"
    asset.write_text(PROGRAM.replace("{folder}", str(service.directory)))
    async with engine.open(service.directory) as stores:
        asked = Submission(path=asset, name="program.sh", kind="script")
        return (await Submitter(stores).place(asked, new_id(), {}, "text/plain")).id


def calls(service: Service, name: str) -> list[int]:
    """Who made these calls so far."""
    lines = (line.split() for line in (service.directory / "calls").read_text().splitlines())
    return [int(line[0]) for line in lines if line[1:] == [name]]


def followed(service: Service, job_id: str, values: int) -> list[dict[str, Any]]:
    """The progress as the API tells it, until it has taken so many values."""
    seen: list[dict[str, Any]] = []

    def enough() -> bool:
        progress = service.job(job_id)["progress"]
        if progress and progress not in seen:
            seen.append(progress)
        return len(seen) >= values

    until(enough, f"{values} values")
    return seen


@on_engines(EMBEDDED, AZURITE)
def test_a_row_follows_its_program_and_a_kill_costs_what_it_did(service: Service, engine: Engine) -> None:
    job_id = asyncio.run(submitted(service, engine))
    until(lambda: service.job(job_id)["progress"], "progress")
    began, before = time.monotonic(), calls(service, "jobs.write")
    seen = followed(service, job_id, 9)
    took, writes = time.monotonic() - began, len(calls(service, "jobs.write")) - len(before)
    percents = [each["percent"] for each in seen]
    assert all(earlier < later for earlier, later in pairwise(percents)), percents
    assert 0 <= percents[0] < percents[-1] < 100
    assert all(each["eta_seconds"] is None or 0 < each["eta_seconds"] < 600 for each in seen)
    assert writes <= took * 1.5 + 2, "a second between two, and a renewal each two"
    line = service.command("job", job_id).stdout
    assert "progress    [#" in line

    os.kill(before[-1], signal.SIGKILL)
    killed = clock.now()
    until(lambda: service.job(job_id)["state"] == "completed", "the job is taken over")
    job = service.job(job_id)
    assert [attempt["end"] for attempt in job["attempts"]] == ["worker_lost", "ok"]
    assert job["progress"] is None
    waited = (clock.from_iso(job["attempts"][1]["started_at"]) - killed).total_seconds()
    assert waited < LEASE * 1.9, "one lease, and not another one because the row had moved since its message was marked"
