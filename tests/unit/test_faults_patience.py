"""Stores that are slow, busy, closed to us, or half away: work waits, tells a person, and goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_faults_stores import Weather
from test_workers_queue_worker import Copier

from rolehost import clock
from rolehost.environment import RoleEnvironment
from rolehost.errors import StoreError, StoreForbiddenError, StoreThrottledError, StoreUnavailableError
from rolehost.jobs.job import End
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.submission import Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores.connect import connect
from rolehost.telemetry import subscribe
from rolehost.testing import Faults, FaultyStores
from rolehost.workers.claiming import begin
from rolehost.workers.lease import LeaseKeeper
from rolehost.workers.processing import process_message
from rolehost.workers.queue_worker import _Loop
from rolehost.workers.store_health import LOOK_EVERY, StoreHealth
from support import front_end as support_front_end
from support.fake_clock import FakeClock
from support.front_end import front_end, picture
from support.jobs import Bench, open_bench, succeed, until
from support.role_process import HostedRole

NAME = 'the queue "work"'


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, disk_floor=0) as bench:
        yield bench


def busy(seconds: float | None) -> Callable[[], StoreError]:
    return lambda: StoreThrottledError("the server is busy", retry_after=seconds)


def closed() -> StoreError:
    return StoreForbiddenError("the signature has expired", store=NAME)


@asynccontextmanager
async def looping(bench: Bench) -> AsyncIterator[None]:
    """A worker's loop at work."""
    worker = Copier()
    worker.role_environment = RoleEnvironment.for_testing()
    stopping = asyncio.Event()
    task = asyncio.create_task(_Loop(worker, bench.desk, bench.root).work(stopping))
    try:
        yield
    finally:
        assert not task.done(), "no error ends the loop"
        stopping.set()
        await asyncio.wait_for(task, 10)


async def called(bench: Bench, call: str, times: int) -> bool:
    return bench.faults.calls.count(call) >= times


async def state_is(bench: Bench, job_id: str, state: str) -> bool:
    return (await bench.row(job_id)).state == state


async def pump(time: FakeClock, seconds: float) -> None:
    """Let time pass, and the stores' threads come in between."""
    for _ in range(round(seconds / 0.5)):
        await time.advance(0.5)
        await asyncio.sleep(0.003)


async def test_a_job_whose_message_cannot_be_put_is_accepted_counted_and_runs_once_the_queue_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, told = Faults(), list[dict[str, Any]]()

    @asynccontextmanager
    async def connected(environ: dict[str, str]) -> AsyncIterator[FaultyStores]:
        async with connect(environ) as stores:
            yield FaultyStores(stores, faults, outbox=True)

    monkeypatch.setattr(support_front_end, "connect", connected)
    stop = subscribe(lambda event, facts: told.append(facts) if event == "job.enqueue_deferred" else None)
    try:
        async with front_end(tmp_path) as end:
            faults.refuse("queue.put", times=None)
            files = {"file": ("a.png", picture(40, 30), "image/png")}
            answer = await end.client.post("/api/v1/jobs", files=files, data={"size": "Small"})
            assert answer.status_code == 202
            (deferred,) = told
            assert answer.headers["location"].endswith(deferred["job"])
            queue = end.stores.queue(deferred["queue"])
            recovery = Recovery(end.stores, lease=60)
            for _ in range(3):
                await recovery.sweep()
            assert not await queue.receive(1, hide=60), "nothing could be put yet"
            faults.clear()
            for _ in range(2):
                await recovery.sweep()
            (message,) = await queue.receive(2, hide=60)
            assert deferred["job"] in message.body
            assert not await end.stores.table(TABLE).notes("outbox")
    finally:
        stop()


class Slow(Weather):
    """Each call takes five seconds, too."""

    async def around(self, call: str, work: Any) -> Any:
        await clock.sleep(5)
        return await super().around(call, work)


async def test_five_seconds_for_each_call_and_an_error_in_ten_only_make_it_slower(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [await bench.submit() for _ in range(8)]
    time, weather = FakeClock(monkeypatch), Slow(1)
    stores = FaultyStores(bench.inner, weather)
    name = bench.desk.queue.name
    desk = replace(bench.desk, stores=stores, jobs=JobTable(stores.table(TABLE)), queue=stores.queue(name))

    async def work() -> None:
        while not all([(await bench.row(job.id)).state.terminal for job in jobs]):
            for message in await bench.inner.queue(name).receive(8, hide=5):
                with suppress(StoreError):  # as the worker's loop does
                    await process_message(desk, message, succeed, root=bench.root)

    working = asyncio.create_task(work())
    async with asyncio.timeout(60):
        while not working.done():
            await pump(time, 5)
    await working
    assert time.seconds > 8 * 5 * 5, "it took its time"
    assert weather.fired
    rows = [await bench.row(job.id) for job in jobs]
    assert {row.state for row in rows} == {"completed"}
    assert all((row.charges.app, row.charges.resource) == (0, 0) for row in rows)


async def test_stores_that_are_slow_or_silent_are_told_with_the_reason_until_they_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    time, health, environment = FakeClock(monkeypatch), StoreHealth(), RoleEnvironment.for_testing()
    host: Any = environment._host
    watching = asyncio.create_task(health.watch(bench.stores.table("leases"), environment))
    try:
        await pump(time, 30)
        assert host.trouble == ""
        bench.faults.delay("leases.read", 5.0, times=None)
        await pump(time, 30)
        assert host.trouble == "degraded: the stores are slow: a look at a row took 5.0 s"
        bench.faults.clear()
        bench.faults.refuse("leases.read", times=None, error=lambda: StoreUnavailableError("no answer"))
        await pump(time, 40)
        assert host.trouble.startswith("degraded: the stores have not answered since 2026-11-21T00:0")
        assert host.trouble.endswith(": no answer")
        bench.faults.clear()
        await pump(time, 2 * LOOK_EVERY)
        assert host.trouble == ""
    finally:
        watching.cancel()


async def test_one_error_alone_is_no_trouble() -> None:
    health = StoreHealth()
    health.failed("look", StoreUnavailableError())
    health.failed("claim", StoreUnavailableError())
    assert health.trouble == ""


async def test_a_busy_queue_is_asked_again_only_when_it_wants_to_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await bench.submit()
    time = FakeClock(monkeypatch)
    bench.faults.refuse("queue.receive", times=2, error=busy(7.0))
    async with looping(bench):
        await until(lambda: called(bench, "queue.receive", 1))
        await pump(time, 6.5)
        assert bench.faults.calls.count("queue.receive") == 1
        await pump(time, 1.0)
        assert bench.faults.calls.count("queue.receive") == 2
        await pump(time, 6.0)
        assert bench.faults.calls.count("queue.receive") == 2
        await pump(time, 2.0)
        await until(lambda: state_is(bench, job.id, "completed"))
    assert (await bench.row(job.id)).charges.to_json() == {"app": 0, "resource": 0, "lost": 0}


async def test_a_mistaken_retry_after_does_not_stop_a_worker_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    time, health = FakeClock(monkeypatch), StoreHealth()
    health.failed("receive", StoreThrottledError("busy", retry_after=86400.0))
    waiting = asyncio.create_task(health.patience())
    await time.advance(299)
    assert not waiting.done()
    await time.advance(2)
    await asyncio.wait_for(waiting, 1)


async def test_a_renewal_waits_as_long_as_a_busy_store_asks(tmp_path: Path) -> None:
    async with open_bench(tmp_path, lease=3.0) as bench:  # renewed after 1 s, trusted for 2.5 s
        await bench.submit()
        message = await bench.receive()
        claim = await begin(bench.desk, message)
        assert claim is not None
        at: dict[str, float] = {}

        def note(event: str, _: dict[str, Any]) -> None:
            at.setdefault(event, clock.monotonic())

        stop = subscribe(note)
        bench.faults.refuse("jobs.write", error=busy(1.2))
        reads = bench.reads()
        try:
            async with LeaseKeeper(bench.desk, claim, message) as lease:
                await until(lambda: _known(at, "store.unavailable"))
                asked = bench.reads() - reads
                await until(lambda: _known(at, "lease.renewed"))
                assert lease.ended is None
        finally:
            stop()
        assert at["lease.renewed"] - at["store.unavailable"] >= 1.15, "without it half a second"
        assert asked == 0, "nothing was applied: the row needn't be read for that"


async def _known(at: dict[str, float], event: str) -> bool:
    return event in at


@pytest.mark.parametrize("error", [busy(0.01), busy(None), closed])
@pytest.mark.parametrize("call", ["jobs.write", "jobs.read", "blobs.download", "blobs.put", "queue.complete"])
async def test_busy_and_closed_stores_charge_nobody(bench: Bench, call: str, error: Callable[[], StoreError]) -> None:
    job = await bench.submit()
    bench.faults.refuse(call, times=2, error=error)
    for _ in range(6):
        if (await bench.row(job.id)).state == "completed":
            break
        await bench.process(succeed)
    row = await bench.row(job.id)
    assert row.state == "completed"
    assert row.charges.to_json() == {"app": 0, "resource": 0, "lost": 0}
    assert {attempt.end for attempt in row.attempts} <= {End.OK, End.STORE_ERROR}


async def test_a_store_that_refuses_access_is_told_once_and_asked_on_and_work_resumes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await bench.submit()
    time = FakeClock(monkeypatch)
    bench.faults.refuse("queue.receive", times=None, error=closed)
    async with looping(bench):
        await until(lambda: called(bench, "queue.receive", 1))
        await pump(time, 240)
        asked = bench.faults.calls.count("queue.receive")
        assert 8 <= asked <= 20, "from a second to half a minute"
        assert bench.told("store.forbidden") == [{"store": NAME, "why": "the signature has expired"}]
        assert not bench.told("store.unavailable")
        assert bench.desk.health.trouble == f"degraded: access is refused by {NAME}"
        bench.faults.clear()
        await pump(time, 120)
        await until(lambda: state_is(bench, job.id, "completed"))
        assert bench.desk.health.trouble == ""
    assert (await bench.row(job.id)).charges.to_json() == {"app": 0, "resource": 0, "lost": 0}


async def test_a_refused_submission_is_no_accepted_job(bench: Bench) -> None:
    bench.faults.refuse("submit", error=closed)
    with pytest.raises(StoreForbiddenError):
        await Submitter(bench.stores).submit(bench.asked())


DEGRADED = """
    from contextlib import asynccontextmanager

    from rolehost.errors import StoreForbiddenError
    from rolehost.stores.connect import connect
    from rolehost.testing import Faults, FaultyStores
    from rolehost.workers import queue_worker, store_health

    store_health.LOOK_EVERY = 0.1
    store_health.REMEMBERED = 1.0
    faults = Faults()
    faults.refuse("*", times=None, error=lambda: StoreForbiddenError("it has expired", store="the account"))

    @asynccontextmanager
    async def connected(environ):
        async with connect(environ) as stores:
            yield FaultyStores(stores, faults)

    queue_worker.connect = connected

    class Worker(queue_worker.QueueWorker):
        kind = "work"

        def on_start(self):
            def check(_):
                if Path("mended").exists():
                    faults.clear()
            self.role_environment.status_check += check
            return True
"""


async def test_readiness_says_what_is_wrong_with_the_stores_and_the_role_goes_on(tmp_path: Path) -> None:
    environ = {"ROLEHOST_DATA": str(tmp_path / "data")}
    async with HostedRole(tmp_path, DEGRADED, environ=environ, status_check_seconds=0.2) as role:
        detail = "degraded: access is refused by the account"
        await role.until(lambda: role.leases.detail == detail, "busy, and why")
        assert role.leases.status == "Busy"
        assert role.process is not None
        assert role.process.returncode is None, "it is no reason to end"
        role.touch("mended")
        await role.until_status("Started")
        assert role.process.returncode is None
