"""A worker and its storage (Azurite) with a network between them that fails, and a storage that hangs.

Two roles work side by side: a patient one, whose leases outlive the trouble, and a hasty one, whose leases don't.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from rolehost.jobs.job import Job, JobState, new_id
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from rolehost.stores.azure_storage.keys import ROW
from rolehost.stores.connect import connect
from support.azurite import Azurite
from support.jobs import until
from support.proxy import Proxy
from support.service import Service

pytestmark = pytest.mark.acceptance

PATIENT, HASTY = 24.0, 3.0
"""Seconds of a lease."""
CUT = 10.0
OF_THE_STORES = {"lease_lost", "store_error", "worker_lost"}
"""How an attempt may end whose worker could not reach the stores; the last one where it could not write that."""
ROLES = """
from rolehost import ConsoleApp, ConsoleAppWorker

RUN = '{ read -r go; read -r begun; } < "$0"; : > "$begun"; while [ ! -e "$go" ]; do sleep 0.1; done; exec cp "$0" "$1"'


class Patient(ConsoleAppWorker):
    kind = "patient"
    app = ConsoleApp(("sh", "-c", RUN, "{source}", "{target}"))


class Hasty(ConsoleAppWorker):
    kind = "hasty"
    app = ConsoleApp(("sh", "-c", RUN, "{source}", "{target}"))
"""
SETTINGS = """
"Worker.Slots" = 2
"Worker.RetryBaseSeconds" = 0.2
"Worker.RetryMaxSeconds" = 0.3
"Worker.TermGraceSeconds" = 0.5
"Worker.PollSeconds" = 1
"Recovery.IntervalSeconds" = 1
"""
SERVICE = f"""
[service]
name = "outages"
drain_seconds = 3
recycle_seconds = 0.2

[roles.FrontEnd]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080

[roles.Patient]
entry_point = "roles:Patient"
[roles.Patient.settings]
"Telemetry.MetricsPort" = 0
"Worker.LeaseSeconds" = {PATIENT:g}
{SETTINGS}
[roles.Patient.local_resources.Scratch]
size_in_mb = 10

[roles.Hasty]
entry_point = "roles:Hasty"
[roles.Hasty.settings]
"Worker.LeaseSeconds" = {HASTY:g}
{SETTINGS}
[roles.Hasty.local_resources.Scratch]
size_in_mb = 10
"""


@dataclass(frozen=True)
class Site:
    """The service, its storage, and what lies between them; the test's own way to the storage is straight."""

    service: Service
    storage: Azurite
    network: tuple[Proxy, ...]
    stores: Stores
    http: httpx2.AsyncClient

    async def running(self, kind: str) -> Job:
        """A job that runs, until the test's file is there."""
        asset, begun = (self.service.directory / f"{name}-{new_id()}" for name in ("asset", "begun"))
        asset.write_text(f"{self.go}\n{begun}\n")
        job = await Submitter(self.stores).submit(Submission(path=asset, name="asset.txt", kind=kind))
        await until(lambda: exists(begun), within=30)
        return job

    @property
    def go(self) -> Path:
        return self.service.directory / "go"

    async def row(self, job: Job) -> Job:
        found = await JobTable(self.stores.table(TABLE)).read(job.id)
        assert found is not None
        return found

    async def over(self, job: Job) -> bool:
        return (await self.row(job)).state.terminal

    async def age(self) -> float:
        """Since the patient worker's last renewal, as its metrics say."""
        lines = [line for line in self.service.log().splitlines() if '"metrics.listening"' in line]
        answer = await self.http.get(f"http://{json.loads(lines[-1])['address']}/metrics")
        return float(re.findall(r"^rolehost_lease_renewal_age_seconds (\S+)", answer.text, re.MULTILINE)[0])

    async def trouble(self) -> str:
        """What `/readyz` says is wrong; empty if nothing is."""
        answer = await self.http.get(f"{self.service.url}/readyz")
        return "" if answer.status_code == httpx2.codes.OK else json.dumps(answer.json())

    async def checksum(self, blob: str) -> str:
        found = hashlib.sha256()
        async for piece in self.stores.blobs.stream(blob):
            found.update(piece)
        return found.hexdigest()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    (tmp_path / "roles.py").write_text(ROLES)
    async with AsyncExitStack() as stack:
        storage = await asyncio.to_thread(Azurite().start)
        stack.callback(storage.stop)
        network = [await stack.enter_async_context(Proxy("127.0.0.1", port)) for port in storage.ports]
        away = storage.connection(ports=[proxy.port for proxy in network])
        service = Service(tmp_path, {"ROLEHOST_STORAGE": away})
        service.define(SERVICE)
        stack.push_async_callback(asyncio.to_thread, service.close)
        await asyncio.to_thread(service.start)
        stores = await stack.enter_async_context(connect({"ROLEHOST_STORAGE": storage.connection()}))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=10))
        yield Site(service, storage, tuple(network), stores, http)


@asynccontextmanager
async def cut(site: Site) -> AsyncIterator[None]:
    """Every connection is reset, and each new one."""
    for proxy in site.network:
        proxy.down()
    try:
        yield
    finally:
        for proxy in site.network:
            proxy.up()


@asynccontextmanager
async def hung(site: Site) -> AsyncIterator[None]:
    """Connections are taken, and nothing is answered; what was asked meanwhile is carried out later."""
    site.storage.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        site.storage.signal(signal.SIGCONT)


@pytest.mark.parametrize("trouble", [cut, hung], ids=["a network cut", "a storage that hangs"])
async def test_storage_that_is_away_in_mid_job_costs_no_job_and_no_second_result(
    site: Site, trouble: Callable[[Site], AbstractAsyncContextManager[None]]
) -> None:
    patient, hasty = await site.running("patient"), await site.running("hasty")
    await until(lambda: renewed(site), within=PATIENT)
    async with trouble(site):
        since = time.monotonic()
        await until(lambda: degraded(site), within=40)
        await asyncio.sleep(CUT - (time.monotonic() - since))
        assert await site.age() >= CUT, "the age of the last renewal stays visible, and grows"
        away = time.monotonic() - since
    await until(lambda: ready(site), within=40)
    if away < PATIENT / 2:
        await until(lambda: younger(site, PATIENT / 2), within=PATIENT)
    site.go.touch()
    await until(lambda: all_of(site.over, patient, hasty), within=60)
    ends = [str(attempt.end) for attempt in (await site.row(hasty)).attempts]
    assert len(ends) > 1, "its lease did not outlive the trouble"
    if away < PATIENT / 2:
        assert [str(attempt.end) for attempt in (await site.row(patient)).attempts] == ["ok"], "its lease did"
    await one_result(site, patient, hasty)


async def test_ten_errors_of_the_server_to_renewals_end_no_lease(site: Site) -> None:
    job = await site.running("patient")
    await until(lambda: renewed(site), within=PATIENT)
    for status in (500, 502, 503, 504, 500) * 2:
        site.network[2].answer(status, matching="/$batch", holding=f"RowKey='{ROW}{job.id}'")

    async def refused() -> bool:
        told = [line for line in site.service.log().splitlines() if job.id in line]
        return sum('"what": "lease renewal"' in line and '"store.unavailable"' in line for line in told) == 10

    await until(refused, within=PATIENT)
    assert await site.age() > PATIENT / 2, "the age of the last renewal stays visible, and has grown"
    await until(lambda: younger(site, PATIENT / 3), within=PATIENT)
    site.go.touch()
    await until(lambda: all_of(site.over, job), within=40)
    assert [str(attempt.end) for attempt in (await site.row(job)).attempts] == ["ok"]
    await one_result(site, job)


async def one_result(site: Site, *jobs: Job) -> None:
    """Each job is completed, has what it was to have, and keeps it; what lost is collected."""
    rows = [await site.row(job) for job in jobs]
    for row in rows:
        assert (row.state, row.reason) == (JobState.COMPLETED, "")
        assert {str(attempt.end) for attempt in row.attempts[:-1]} <= OF_THE_STORES, row.attempts
        assert row.charges.app == row.charges.resource == 0
        assert row.result is not None
        assert row.result.sha256 == await site.checksum(row.spec.source.blob) == await site.checksum(row.result.blob)

    async def only() -> bool:
        names = (await site.stores.blobs.list("results/")).names
        return set(names) == {row.result.blob for row in rows if row.result}

    await asyncio.sleep(HASTY)  # whoever would still come back late has had its chance
    await until(only, within=20)
    assert [await site.row(job) for job in jobs] == rows


async def exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 - a look


async def all_of(answer: Callable[[Job], Awaitable[bool]], *jobs: Job) -> bool:
    return all([await answer(job) for job in jobs])


async def degraded(site: Site) -> bool:
    return "the stores do not answer" in await site.trouble()


async def ready(site: Site) -> bool:
    return not await site.trouble()


async def renewed(site: Site) -> bool:
    return await younger(site, 1.0)


async def younger(site: Site, seconds: float) -> bool:
    return await site.age() < seconds
