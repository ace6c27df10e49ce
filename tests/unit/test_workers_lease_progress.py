"""Progress in the row: how often it is written, by whom, and what it costs a lease: nothing.

The worker's own code over stores in memory, in a time of the test's own: an hour takes milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from rolehost import clock
from rolehost.errors import StoreThrottledError
from rolehost.jobs.job import Attempt, End, Job, JobState, Result
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.telemetry import subscribe
from rolehost.testing import Faults
from rolehost.workers import lease as leases
from rolehost.workers.claiming import begin
from rolehost.workers.desk import Desk
from rolehost.workers.lease import LeaseKeeper
from rolehost.workers.progress import Meter
from rolehost.workers.settings import WorkerSettings
from support.jobs import ended
from support.simulation.engines import ENGINES, queue_of, stores_of
from support.simulation.memory import MemoryStores
from support.simulation.virtual import VirtualLoop, simulated

NEAR, FAR = "embedded", "azure_storage"
LEASE = 60.0
Story = Callable[["Scene"], Awaitable[Any]]


@dataclass(kw_only=True)
class Scene:
    """A running attempt of one job, and what is known of it."""

    desk: Desk
    memory: MemoryStores
    faults: Faults
    keeper: LeaseKeeper
    meter: Meter
    facts: list[tuple[str, dict[str, Any]]]

    async def row(self) -> Job:
        job = await JobTable(self.memory.table(TABLE)).read(self.keeper.claim.spec.id)
        assert job is not None
        return job

    async def percent(self) -> float | None:
        progress = (await self.row()).progress
        return progress["percent"] if progress else None

    async def rise(self, seconds: float, *, of: float = 0.0, to: float = 99.0, every: float = 0.1) -> None:
        """The application tells of every small step."""
        steps = round(seconds / every)
        for step in range(1, steps + 1):
            await asyncio.sleep(every)
            self.meter.note(of + step * (to - of) / steps)

    def calls(self, name: str) -> int:
        return self.faults.calls.count(name)

    def told(self, event: str) -> int:
        return sum(name == event for name, _ in self.facts)


@asynccontextmanager
async def _scene(engine: str, folder: Path) -> AsyncIterator[Scene]:
    faults, facts = Faults(), list[tuple[str, dict[str, Any]]]()
    memory = MemoryStores(queue_of(engine, "work-jobs", Random(1), clean=True), lambda *_: None, lambda _: None)  # noqa: S311 - no secret
    stores = stores_of(engine, memory, faults, object(), 0.0)
    asset = folder / "asset"
    asset.write_bytes(b"asset")
    await Submitter(stores).submit(Submission(path=asset, name="asset", kind="work"))
    desk = Desk(
        stores=stores,
        jobs=JobTable(stores.table(TABLE)),
        queue=stores.queue("work-jobs"),
        settings=WorkerSettings(lease=LEASE),
        instance="Worker_IN_0",
    )
    (message,) = await desk.queue.receive(1, hide=desk.hiding)
    claim = await begin(desk, message)
    assert claim is not None
    faults.calls.clear()
    meter = Meter()
    stop = subscribe(lambda event, told: facts.append((event, told)))
    try:
        async with LeaseKeeper(desk, claim, message, meter) as keeper:
            yield Scene(desk=desk, memory=memory, faults=faults, keeper=keeper, meter=meter, facts=facts)
    finally:
        stop()


def played(engine: str, folder: Path, story: Story) -> None:
    """A story in virtual time."""

    async def all_of_it() -> None:
        async with _scene(engine, folder) as scene:
            await story(scene)

    loop = VirtualLoop()
    try:
        with simulated(loop, 1), patch.object(leases, "LOOK_EVERY", 1.0):
            loop.run_until_complete(all_of_it())
    finally:
        loop.close()


@pytest.mark.parametrize(("engine", "writes", "values"), [(NEAR, 300, 150), (FAR, 61, 50), ("service_bus", 61, 50)])
def test_a_thousand_updates_are_few_writes(engine: str, writes: int, values: int, tmp_path: Path) -> None:
    """Five minutes, ten updates a second: near stores take one a second at most, others one in five seconds."""

    async def story(scene: Scene) -> None:
        renewed = scene.told("lease.renewed")
        seen: set[float | None] = set()

        async def look() -> None:
            while True:
                await asyncio.sleep(0.5)
                seen.add(await scene.percent())

        looking = asyncio.create_task(look())
        await scene.rise(300)
        looking.cancel()
        assert scene.calls(f"{TABLE}.write") <= writes
        assert len(seen) >= values
        assert scene.told("lease.renewed") - renewed == pytest.approx(15, abs=1), "each at its own time"
        assert scene.calls("queue.renew") <= 16 + (engine != "service_bus"), "and the message as often as ever"
        assert scene.told("job.progressed") == 4
        assert scene.keeper.ended is None

    played(engine, tmp_path, story)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_hardly_moves_rides_on_the_renewals(engine: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.rise(300, to=0.45)
        assert scene.calls(f"{TABLE}.write") <= 17
        assert (await scene.percent() or 0) >= 0.4

    played(engine, tmp_path, story)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_attempt_that_tells_nothing_costs_what_it_did(engine: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(300)
        assert scene.calls(f"{TABLE}.write") == pytest.approx(15, abs=1)
        assert (await scene.row()).progress is None

    played(engine, tmp_path, story)


@pytest.mark.parametrize("engine", [NEAR, FAR])
@pytest.mark.parametrize("lived", [7.0, 18.0, 33.0, 59.5, 119.5])
def test_a_killed_workers_job_is_taken_over_as_soon_as_ever(engine: str, lived: float, tmp_path: Path) -> None:
    """The row's version has moved on since the message was marked: the mark names the renewal, which has not."""
    waited: dict[bool, float] = {}
    for tells in (False, True):

        async def story(scene: Scene, tells: bool = tells) -> None:  # noqa: FBT001 - bound for the loop
            rising = asyncio.create_task(scene.rise(lived if tells else 0, to=50))
            await asyncio.sleep(lived)
            await rising
            scene.keeper._task.cancel()  # as a kill does: it writes no more
            killed = clock.monotonic()
            while clock.monotonic() < killed + 5 * LEASE:
                for message in await scene.desk.queue.receive(1, hide=scene.desk.hiding):
                    if await begin(scene.desk, message):
                        waited[tells] = clock.monotonic() - killed
                        row = await scene.row()
                        assert [attempt.end for attempt in row.attempts] == [End.WORKER_LOST, None]
                        assert row.progress is None, "the new attempt begins anew"
                        return
                await asyncio.sleep(0.1)

        played(engine, tmp_path, story)
    assert waited[True] == pytest.approx(waited[False], abs=0.2)
    assert waited[True] <= LEASE + 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_live_attempt_is_never_taken_over(engine: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        rising = asyncio.create_task(scene.rise(400))
        stale = (await scene.row()).held_since
        while not rising.done():
            await asyncio.sleep(LEASE + 0.5)
            now = (await scene.row()).held_since
            assert now != stale, "whoever saw the lease a whole lease ago sees that it was renewed"
            stale = now
        assert (await scene.row()).attempt == 1

    played(engine, tmp_path, story)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_refused_progress_write_proves_a_loss_at_once(engine: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.rise(30, to=30)
        await JobTable(scene.memory.table(TABLE)).cancel(await scene.row())
        cancelled = clock.monotonic()
        rising = asyncio.create_task(scene.rise(30, of=30))
        await scene.keeper.over()
        assert scene.keeper.lost
        assert clock.monotonic() - cancelled < 6.0
        assert scene.told("attempt.cancelled") == 1
        rising.cancel()
        assert (await scene.row()).progress is None, "what is over has none"

    played(engine, tmp_path, story)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("how", ["refuse", "lose_answer"])
def test_an_error_of_it_costs_no_lease(engine: str, how: str, tmp_path: Path) -> None:
    """It is an error like a renewal's: the next write is a renewal, soon; and progress goes on after it."""

    async def story(scene: Scene) -> None:
        rising = asyncio.create_task(scene.rise(200))
        for _ in range(8):
            await asyncio.sleep(11)
            getattr(scene.faults, how)(f"{TABLE}.write", times=2)
            await asyncio.sleep(9)
        await rising
        await asyncio.sleep(21)
        assert scene.faults.fired
        assert scene.keeper.ended is None
        assert await scene.percent() == 99.0
        claim = await scene.keeper.stop()
        row = await scene.row()
        assert (row.version, row.held_since) == (claim.version, claim.held_since)

    played(engine, tmp_path, story)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_version_that_moves_under_it_is_no_renewal(engine: str, tmp_path: Path) -> None:
    """A write of ours that went unanswered, or another's: the lease still counts from its own."""

    async def story(scene: Scene) -> None:
        await scene.rise(28, to=30)
        row = await scene.row()
        assert row.renewal
        await scene.memory.table(TABLE).write(row.id, row.version, {"noted": "by somebody"})
        await scene.rise(10, of=30, to=60)
        later = await scene.row()
        assert (later.progress or {})["percent"] > 45
        assert later.held_since == row.held_since

    played(engine, tmp_path, story)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_store_that_throttles_gets_no_progress_for_a_lease(engine: str, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.rise(26, to=20)
        scene.faults.refuse(f"{TABLE}.write", error=lambda: StoreThrottledError("too much", retry_after=25))
        rising = asyncio.create_task(scene.rise(100))
        while not scene.faults.fired:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        struck, before = clock.monotonic(), scene.calls(f"{TABLE}.write")
        await asyncio.sleep(24)
        assert scene.calls(f"{TABLE}.write") == before, "what it asked for is granted"
        await asyncio.sleep(LEASE - 25)
        assert clock.monotonic() - struck < LEASE
        assert scene.calls(f"{TABLE}.write") - before <= 4, "renewals only"
        await rising
        assert scene.keeper.ended is None
        assert (await scene.percent() or 0) > 75

    played(engine, tmp_path, story)


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.QUEUED, JobState.FAILED, JobState.POISONED])
def test_only_what_runs_has_progress(state: JobState, tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.rise(5, to=50)
        claim = await scene.keeper.stop()
        assert await scene.percent()
        jobs, attempt = scene.desk.jobs, claim.attempt

        def over(end: End) -> Attempt:
            return ended(attempt, end)

        match state:
            case JobState.COMPLETED:
                await jobs.complete(claim, over(End.OK), _result())
            case JobState.QUEUED:
                await jobs.retry(claim, over(End.APP_ERROR), retries_at=None)
            case JobState.FAILED:
                await jobs.fail(claim, over(End.BAD_INPUT), reason="bad")
            case _:
                await jobs.poison(claim.spec.id, claim.version, over(End.APP_ERROR), reason="app: bad")
        row = await scene.row()
        assert (row.state, row.progress, row.renewal) == (state, None, "")
        assert row.to_json()["progress"] is None

    played(NEAR, tmp_path, story)


def _result() -> Result:
    return Result(name="r", size=1, sha256="", type="text/plain", blob="results/r")
