"""Faults at exact points of real processes: a role that strikes itself at a named call of its stores, and what is left.

The service's stores are real; its roles open them inside a wrapper that reads the order of a test (role, call, moment,
signal) and carries it out once.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rolehost.jobs.job import Job, JobState, new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from support.jobs import until
from support.pictures import photograph
from support.service import Service, marked

pytestmark = pytest.mark.acceptance

LEASE = 2.0
KIND = "script"
ROLES = """
import asyncio, os, resource, signal
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from rolehost import ConsoleApp, ConsoleAppWorker
from rolehost.frontend import role
from rolehost.stores.connect import connect
from rolehost.testing import Faults, FaultyStores
from rolehost.workers import queue_worker

HERE = Path(__file__).parent
held = []


class Points(Faults):
    async def around(self, call, work):
        strike(call, "before")
        answer = await (watched(call, work()) if call in {"blobs.put", "blobs.download"} else work())
        if answer or call != "queue.receive":
            strike(call, "after")
        return answer


async def watched(call, work):
    working = asyncio.ensure_future(work)
    try:
        while not working.done():
            if begun():
                strike(call, "during")
            await asyncio.sleep(0)
        return await working
    finally:
        working.cancel()


def begun():
    # Whether a file is being written by a blob store, here or into a scratch directory.
    if held:
        return False
    for pattern in ("blobs/.tmp/*", "resources/*/Scratch/*/source*"):
        for path in (HERE / "data").glob(pattern):
            with suppress(OSError):
                if path.is_file() and path.stat().st_size:
                    return True
    return False


def strike(call, moment):
    if held:
        release_descriptors()
        return
    with suppress(FileNotFoundError):
        wanted = (HERE / "order").read_text().split()
        if wanted[:3] == [os.environ["RoleName"], call, moment]:
            (HERE / "order").rename(HERE / f"struck.{os.getpid()}")
            take_descriptors() if wanted[3] == "descriptors" else os.kill(os.getpid(), int(wanted[3]))


def take_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with suppress(OSError):
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))


def release_descriptors():
    if not (HERE / "hold").exists():
        while held:
            os.close(held.pop())


@asynccontextmanager
async def connected(environ):
    async with connect(environ) as stores:
        yield FaultyStores(stores, Points())


role.connect = queue_worker.connect = connected
FrontEnd = role.ThumbnailFrontend


class Worker(ConsoleAppWorker):
    kind = "script"
    app = ConsoleApp(("sh", "{source}", "{target}"))
"""
SERVICE = f"""
[service]
name = "faults"
drain_seconds = 5
recycle_seconds = 0.2

[roles.FrontEnd]
entry_point = "roles:FrontEnd"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080

[roles.Worker]
entry_point = "roles:Worker"
instances = 2
[roles.Worker.settings]
"Worker.Slots" = 1
"Worker.LeaseSeconds" = {LEASE:g}
"Worker.RetryBaseSeconds" = 0.2
"Worker.RetryMaxSeconds" = 0.3
"Worker.TermGraceSeconds" = 0.5
"Recovery.IntervalSeconds" = 0.5
[roles.Worker.local_resources.Scratch]
size_in_mb = 200

[roles.Thumbnails]
entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"
"""
GOOD = 'cp "$0" "$1"; exit 0\n'


@dataclass(frozen=True)
class Site:
    """A service whose roles strike themselves, and its stores."""

    service: Service
    stores: Stores

    def order(self, role: str, call: str, moment: str, strike: int | str) -> None:
        """Strike once, where the role comes to this moment of this call."""
        made = self.service.directory / "order.new"
        made.write_text(f"{role} {call} {moment} {strike}")
        made.rename(self.service.directory / "order")

    async def struck(self) -> int:
        """Wait until the order was carried out; by which process."""

        async def found() -> bool:
            return any(self.service.directory.glob("struck.*"))

        await until(found, within=30)
        (path,) = self.service.directory.glob("struck.*")
        path.unlink()
        return int(path.suffix[1:])

    async def submit(self, script: str = GOOD, padding: int = 0) -> Job:
        """A job whose console application is the asset itself, a script that is called with the target."""
        asset = self.service.directory / f"asset-{new_id()}"
        asset.write_text(script + "#" * padding)
        return await Submitter(self.stores).place(
            Submission(path=asset, name="asset.sh", kind=KIND, consume=True), new_id(), {}, "text/plain"
        )

    async def row(self, job: Job) -> Job:
        """The job as it is now."""
        found = await JobTable(self.stores.table(TABLE)).read(job.id)
        assert found is not None
        return found

    async def over(self, job: Job, state: JobState = JobState.COMPLETED) -> Job:
        """Wait until a job is over; how it is then."""

        async def is_over() -> bool:
            return (await self.row(job)).state.terminal

        await until(is_over, within=40)
        found = await self.row(job)
        assert (found.state, found.reason if state is JobState.COMPLETED else "") == (state, "")
        return found

    async def left(self, job: Job) -> list[str]:
        """Result blobs of a job."""
        return list((await self.stores.blobs.list(f"results/{job.id}/")).names)

    async def dead(self) -> list[Any]:
        """What was set aside, oldest first."""
        return list(await self.stores.queue(kind_named(KIND).queue).peek(1000, dead=True))

    async def settles(self) -> None:
        """Wait until no message and no scratch directory is left."""

        async def settled() -> bool:
            counted = await self.stores.queue(kind_named(KIND).queue).counts()
            return (counted.visible, counted.hidden) == (0, 0) and not self.service.scratch()

        await until(settled, within=20)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "roles.py").write_text(ROLES)
    service = Service(folder)
    service.define(SERVICE)
    try:
        service.start()
        yield service
        assert service.stop() == 0
        assert service.scratch() == []
        assert marked(service.data) == []
    finally:
        service.close()


@asynccontextmanager
async def _opened(service: Service) -> AsyncIterator[Site]:
    async with connect({"ROLEHOST_DATA": str(service.data)}) as stores:
        yield Site(service, stores)


@pytest.fixture
async def site(service: Service) -> AsyncIterator[Site]:
    async with _opened(service) as site:
        yield site
        with suppress(FileNotFoundError):
            (service.directory / "order").unlink()


@pytest.mark.parametrize(
    ("call", "moment", "ends"),
    [
        pytest.param("queue.receive", "after", ["ok"], id="received, not claimed"),
        pytest.param("jobs.write", "after", ["worker_lost", "ok"], id="claimed"),
        pytest.param("blobs.download", "during", ["worker_lost", "ok"], id="half of the asset is here"),
        pytest.param("blobs.put", "before", ["worker_lost", "ok"], id="the application is done"),
        pytest.param("blobs.put", "during", ["worker_lost", "ok"], id="half of the result is stored"),
        pytest.param("blobs.put", "after", ["worker_lost", "ok"], id="all of the result is stored"),
        pytest.param("queue.complete", "before", ["ok"], id="committed"),
        pytest.param("queue.complete", "after", ["ok"], id="settled"),
    ],
)
async def test_a_worker_killed_at_any_point_leaves_one_result_and_nothing_else(
    site: Site, call: str, moment: str, ends: list[str]
) -> None:
    runs = site.service.directory / f"runs-{new_id()}"
    site.order("Worker", call, moment, signal.SIGKILL)
    job = await site.submit(f'sha256sum < "$0" >> {runs}; {GOOD}', padding=30_000_000)
    await site.struck()
    row = await site.over(job)
    assert [attempt.end for attempt in row.attempts] == ends
    assert row.charges.to_json() == {"app": 0, "resource": 0, "lost": ends.count("worker_lost")}
    assert row.result is not None
    assert (row.result.size, row.result.sha256) == (row.spec.source.size, await _checksum(site, row.spec.source.blob))
    assert await _checksum(site, row.result.blob) == row.result.sha256
    seen = runs.read_text().split()[::2]
    assert set(seen) == {row.result.sha256}, "the application is never given a part of its asset"
    await site.settles()
    await until(lambda: _only(site, row), within=10)
    assert await site.row(job) == row
    assert len(runs.read_text().splitlines()) == len(seen), "it ran no more"


async def _checksum(site: Site, blob: str) -> str:
    found = hashlib.sha256()
    async for piece in site.stores.blobs.stream(blob):
        found.update(piece)
    return found.hexdigest()


async def _only(site: Site, row: Job) -> bool:
    """Whether the blob that the row names is the only one."""
    return row.result is not None and await site.left(row) == [row.result.blob]


async def test_a_killed_workers_application_dies_with_it(site: Site) -> None:
    pids = site.service.directory / f"pids-{new_id()}"
    job = await site.submit(f"echo $$ $PPID >> {pids}; [ $(wc -l < {pids}) = 1 ] && exec sleep 600; {GOOD}")

    async def runs() -> bool:
        return pids.exists() and pids.read_text().endswith("\n")

    await until(runs, within=20)
    application, role = map(int, pids.read_text().split())
    os.kill(role, signal.SIGKILL)
    await until(lambda: _gone(application), within=2)
    row = await site.over(job)
    assert [attempt.end for attempt in row.attempts] == ["worker_lost", "ok"]


async def _gone(pid: int) -> bool:
    return _state(pid) in "XZ"


def _state(pid: int) -> str:
    """A process's state as the system has it; X where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


@pytest.mark.parametrize(
    ("call", "moment"), [("blobs.download", "before"), ("blobs.put", "before"), ("blobs.put", "after")]
)
async def test_a_worker_that_wakes_after_its_lease_changes_nothing(site: Site, call: str, moment: str) -> None:
    told = site.service.log().count('"lease.lost"')
    site.order("Worker", call, moment, signal.SIGSTOP)
    job = await site.submit()
    stopped = await site.struck()
    try:
        row = await site.over(job)
        assert _state(stopped) == "T"
        assert row.result is not None
        assert [attempt.end for attempt in row.attempts] == ["worker_lost", "ok"]
        before = await _checksum(site, row.result.blob)
    finally:
        os.kill(stopped, signal.SIGCONT)

    async def heard() -> bool:
        return site.service.log().count('"lease.lost"') > told

    await until(heard, within=10)
    await site.settles()
    await until(lambda: _only(site, row), within=10)
    assert await site.row(job) == row
    assert await _checksum(site, row.result.blob) == before
    assert _state(stopped) != "X", "it lives, and works on"


async def test_an_application_that_kills_its_worker_each_time_is_poisoned_and_others_are_unhurt(site: Site) -> None:
    bad = await site.submit("kill -9 $PPID; sleep 60\n")
    others = [await site.submit() for _ in range(3)]
    for other in others:
        assert (await site.over(other)).attempts[-1].end == "ok"
    row = await site.over(bad, JobState.POISONED)
    assert [attempt.end for attempt in row.attempts] == ["worker_lost"] * 3
    assert row.reason.startswith("lost: ")
    await site.settles()
    # Recovery may have woken it more than once: a second dead letter is allowed, none is not.
    assert {entry.reason for entry in await site.dead() if bad.id in entry.body} == {"lost"}


async def test_messages_that_are_none_are_set_aside_and_the_worker_goes_on(site: Site) -> None:
    queue = site.stores.queue(kind_named(KIND).queue)
    noise = "".join(chr(33 + number % 90) for number in range(48_000))
    sent = {"malformed": ["no JSON", noise, '{"rolehost": 99, "job": "x"}'], "orphan": [WakeUp(job=new_id()).encode()]}
    known = {entry.id for entry in await site.dead()}
    for body in [*sent["malformed"], *sent["orphan"]]:
        await queue.put(body, message_id=new_id())
    roles = site.service.pids("role_process")
    await site.over(await site.submit())
    await site.settles()
    found = [(entry.reason, entry.body) for entry in await site.dead() if entry.id not in known]
    assert sorted(found) == sorted((reason, body) for reason, bodies in sent.items() for body in bodies)
    assert site.service.pids("role_process") == roles, "no process ended of it"


async def test_a_worker_without_descriptors_charges_nothing_and_loses_nothing(site: Site) -> None:
    hold = site.service.directory / "hold"
    hold.touch()
    jobs = []
    try:
        for call in ("blobs.download", "blobs.put"):
            site.order("Worker", call, "before", "descriptors")
            jobs.append(await site.submit())
            await site.struck()
            await until(lambda: _met_an_error(site, jobs[-1]), within=20)
    finally:
        hold.unlink()
    for job in jobs:
        assert (await site.over(job)).charges.to_json() == {"app": 0, "resource": 0, "lost": 0}
    for role in site.service.pids("roles:Worker"):
        os.kill(role, signal.SIGKILL)  # what it could not remove goes when the instance starts again
    await site.settles()


async def _met_an_error(site: Site, job: Job) -> bool:
    return "store_error" in [attempt.end for attempt in (await site.row(job)).attempts]


@pytest.mark.parametrize(
    ("call", "moment", "accepted"),
    [
        pytest.param("blobs.put", "before", 0, id="spooled"),
        pytest.param("blobs.put", "after", 0, id="the input is stored"),
        pytest.param("submit", "after", 1, id="row and message are written"),
    ],
)
async def test_a_request_that_its_front_end_did_not_survive_can_be_repeated(
    site: Site, tmp_path: Path, call: str, moment: str, accepted: int
) -> None:
    photograph(tmp_path / "photo.jpg", megapixels=0.1)
    name, key = f"{new_id()}.jpg", {"Idempotency-Key": new_id()}
    files = {"file": (name, (tmp_path / "photo.jpg").read_bytes(), "image/jpeg")}
    site.order("FrontEnd", call, moment, signal.SIGKILL)
    async with httpx2.AsyncClient(base_url=site.service.url, timeout=30) as client:
        with pytest.raises(httpx2.TransportError):
            await client.post("/api/v1/jobs", files=files, headers=key)
        died = await site.struck()
        assert len(await _called(site, name)) == accepted

        async def answered() -> bool:
            with suppress(httpx2.TransportError):
                answer = await client.post("/api/v1/jobs", files=files, headers=key)
                assert answer.status_code in {202, 409, 503}, answer.text
                return answer.status_code == 202
            return False

        await until(answered, within=30)
    await until(lambda: _gone(died), within=5)
    (job,) = await _called(site, name)
    assert [attempt.end for attempt in (await site.over(job)).attempts] == ["ok"]
    await until(lambda: _spool_is_empty(site), within=10)
    assert len(await _called(site, name)) == 1


async def _called(site: Site, name: str) -> list[Job]:
    """Jobs on a file of this name."""
    page = await JobTable(site.stores.table(TABLE)).list(limit=500)
    return [job for job in page.jobs if job.spec.source.name == name]


async def _spool_is_empty(site: Site) -> bool:
    """Whether the spool has the folder of one process, with nothing in it."""
    spool = site.service.data / "spool"
    return len(list(spool.glob("*.lock"))) == 1 and len(list(spool.rglob("*"))) == 2
