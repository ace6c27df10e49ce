"""A batch whose uploader, driver or canceller is killed or cut off, at every call to the stores in turn."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rolehost.errors import StoreError, UnknownBatchError, VersionMismatchError
from rolehost.jobs.batches import Batch, BatchState, BatchTable, NewBatch, Then, archive, course, ending, manifest
from rolehost.jobs.batches.admission import place_all, spec_of
from rolehost.jobs.job import JobState
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from rolehost.testing import Faults, FaultyStores
from support.batches import KIND, Memory, Mill, add, driver, sealed, settle, step, work_off

ITEMS = 7
NAMES = [f"batch-{number:04d}.txt" for number in range(ITEMS)]
ASKED = NewBatch(name="batch", kind=KIND, then=Then(kind="after", parameters={}))
MODES = ("refuse", "lose_answer")


@dataclass
class Bench:
    """Stores without faults, and a folder."""

    inner: Memory
    folder: Path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Memory(), tmp_path)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (archive, course, ending, manifest):
        monkeypatch.setattr(module, "PAGE", 3)


def plan(faults: Faults, mode: str, at: int) -> None:
    faults.clear()
    faults.fired.clear()
    getattr(faults, mode)(at=at)


async def jobs_of(stores: Stores, batch: Batch) -> dict[str, JobState]:
    page = await JobTable(stores.table(TABLE)).list(limit=5000)
    assert page.cursor is None
    return {job.id: job.state for job in page.jobs if job.spec.batch == batch.id}


async def check_done(stores: Stores, batch: Batch, mill: Mill) -> None:
    """Each item ran once, is counted once, and one job follows."""
    assert batch.state is BatchState.DONE
    assert batch.tally == dict.fromkeys(batch.tally, 0) | {"completed": ITEMS}
    jobs = await jobs_of(stores, batch)
    assert len(jobs) == ITEMS + 1
    assert jobs.pop(batch.then_id) is JobState.QUEUED
    assert {job: mill.runs[job] for job in jobs} == dict.fromkeys(jobs, 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("killed", "near"), [(False, True), (True, False)])
async def test_a_driver_that_fails_at_any_call_loses_and_doubles_nothing(
    tmp_path: Path, mode: str, *, killed: bool, near: bool
) -> None:
    """`killed`: what it knew is gone, and another goes on; else it goes on itself."""
    bench = Bench(Memory(near=near), tmp_path)
    table, mill, at = BatchTable(bench.inner), Mill(bench.inner), 0
    while True:
        at += 1
        faults = Faults()
        batch = await sealed(bench.inner, bench.folder, ITEMS, asked=ASKED, each=2)
        driving = driver(FaultyStores(bench.inner, faults))
        plan(faults, mode, at)
        now = batch
        for _ in range(100):
            await step(driving)
            if killed and faults.fired:
                driving = driver(bench.inner, "another")
            now = await table.get(batch.id)
            if now.state.over:
                break
            await mill.grind()
        await check_done(bench.inner, now, mill)
        if not faults.fired:
            break
        await driving._lease.release()
        if row := await bench.inner.table("leases").read("batches"):
            await bench.inner.table("leases").delete("batches", row.version)
    assert at > 40, "the faults were not met"


async def found(table: BatchTable) -> Batch | None:
    with suppress(UnknownBatchError):
        return await table.named(ASKED.name)
    return None


@pytest.mark.parametrize("mode", MODES)
async def test_an_uploader_that_is_killed_at_any_call_is_simply_run_again(bench: Bench, mode: str) -> None:
    table, mill, at, driving = BatchTable(bench.inner), Mill(bench.inner), 0, driver(bench.inner)

    async def upload(stores: Stores) -> None:
        batch = await BatchTable(stores).create(ASKED)
        await add(stores, batch, bench.folder, NAMES, each=2)
        await BatchTable(stores).seal(batch.id)

    while True:
        at += 1
        faults = Faults()
        plan(faults, mode, at)
        with suppress(StoreError):
            await upload(FaultyStores(bench.inner, faults))
        batch = await found(table)
        if batch is None or batch.state is BatchState.OPEN or batch.state.over:
            await upload(bench.inner)
            batch = await table.named(ASKED.name)
        await check_done(bench.inner, await work_off(bench.inner, batch.id, driving, mill), mill)
        if not faults.fired:
            break
    assert at > 15, "the faults were not met"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("looks", [0, 4])
async def test_a_cancel_that_is_cut_off_at_any_call_leaves_nothing_that_runs(
    bench: Bench, mode: str, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rolehost.jobs.batches.turns.FIRST", 4)
    table, mill, at = BatchTable(bench.inner), Mill(bench.inner), 0
    while True:
        at += 1
        faults = Faults()
        batch = await sealed(bench.inner, bench.folder, ITEMS, asked=ASKED)
        first = driver(bench.inner)
        for _ in range(looks):
            await step(first)
            await mill.grind(2)
        await first._lease.release()
        await table.cancel(batch.id)
        second = driver(FaultyStores(bench.inner, faults))
        plan(faults, mode, at)
        now = batch
        for _ in range(20):
            await step(second)
            if (now := await table.get(batch.id)).state.over:
                break
        assert now.state is BatchState.CANCELLED
        jobs = await jobs_of(bench.inner, batch)
        assert all(state.terminal for state in jobs.values())
        assert sum(now.tally.values()) == now.items == ITEMS
        assert now.tally["completed"] == sum(state is JobState.COMPLETED for state in jobs.values())
        assert now.tally["cancelled"] == ITEMS - now.tally["completed"]
        await second._lease.release()
        if not faults.fired:
            break
    assert at > 5, "the faults were not met"


async def test_a_driver_whose_hand_comes_late_makes_no_job_of_a_cancelled_batch(bench: Bench) -> None:
    """It wrote that the items begin, stood still, and goes on when all is over."""
    table = BatchTable(bench.inner)
    batch = await sealed(bench.inner, bench.folder, ITEMS)
    driving = driver(bench.inner)
    await step(driving)
    running = await table.get(batch.id)
    begun = await table.write(running, begun=5, pages=(0, 1))
    await table.cancel(batch.id)
    await work_off(bench.inner, batch.id, driving, Mill(bench.inner))
    items = [*await table.manifest(batch.id).page(0), *await table.manifest(batch.id).page(1)]
    await place_all(bench.inner, [spec_of(begun, item) for item in items[:5]])
    assert await jobs_of(bench.inner, batch) == {}


async def test_two_drivers_at_once_do_no_harm(bench: Bench) -> None:
    table, mill = BatchTable(bench.inner), Mill(bench.inner)
    for _ in range(8):
        batch = await sealed(bench.inner, bench.folder, ITEMS, asked=ASKED, each=2)
        both = [driver(bench.inner, "one"), driver(bench.inner, "two")]
        for each in both:
            each._lease.held = _always  # type: ignore[method-assign] # as if neither saw the other
        now = batch
        for _ in range(200):
            await asyncio.gather(*(step(each) for each in both), mill.grind())
            if (now := await table.get(batch.id)).state.over:
                break
        await asyncio.gather(*map(settle, both))
        await check_done(bench.inner, now, mill)


async def _always() -> bool:
    return True


async def test_a_cancel_also_ends_the_job_that_follows(bench: Bench) -> None:
    """It was made, and before the batch could say that it is done it was cancelled."""
    table, mill = BatchTable(bench.inner), Mill(bench.inner)
    batch = await sealed(bench.inner, bench.folder, ITEMS, asked=ASKED)
    driving = driver(bench.inner)
    while (now := await table.get(batch.id)).ended < ITEMS or now.pages:
        await step(driving)
        await mill.grind()
        if now.state.over:
            break
    stale = now if not now.state.over else replace(now, state=BatchState.RUNNING, version="0")
    row = await bench.inner.table("batches").read(batch.id)
    assert row is not None
    await bench.inner.table("batches").write(
        batch.id, row.version, {"state": BatchState.RUNNING, "ended_at": None}, tag=BatchState.RUNNING.tag
    )
    with pytest.raises(VersionMismatchError):
        await ending.finish(bench.inner, stale)
    await table.cancel(batch.id)
    over = await work_off(bench.inner, batch.id, driving, mill)
    assert (over.state, over.tally["completed"]) == (BatchState.CANCELLED, ITEMS)
    assert (await jobs_of(bench.inner, batch))[batch.then_id] is JobState.CANCELLED


async def test_one_batch_that_can_not_go_on_holds_up_no_other(bench: Bench) -> None:
    table, mill = BatchTable(bench.inner), Mill(bench.inner)
    broken = await sealed(bench.inner, bench.folder, ITEMS, name="broken")
    batch = await sealed(bench.inner, bench.folder, ITEMS, asked=ASKED)
    driving = driver(bench.inner)
    await step(driving)
    bench.inner.blobs.content[f"batches/{broken.id}/pages/000000"] = b"no manifest"
    await check_done(bench.inner, await work_off(bench.inner, batch.id, driving, mill), mill)
    assert (await table.get(broken.id)).state is BatchState.RUNNING
