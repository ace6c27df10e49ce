"""Batches: who is let in, what is collected and what isn't, names, the ZIP."""

from __future__ import annotations

import io
import itertools
import time
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.errors import BatchStateError, InvalidParameterError, StoreError, UnknownBatchError
from rolehost.jobs.batches import Batch, BatchState, BatchTable, NewBatch
from rolehost.jobs.batches.adding import safe_folder, safe_name
from rolehost.jobs.batches.archive import _Names, results_zip
from rolehost.jobs.batches.model import PAGE
from rolehost.jobs.batches.turns import FIRST, LEAST, Pace, Turn, shares
from rolehost.jobs.garbage import GarbageCollection
from rolehost.jobs.job import JobState, Priority
from rolehost.jobs.retention import Retention, RetentionRules
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.testing import Faults, FaultyStores
from support.batches import KIND, Memory, Mill, add, driver, sealed, step, work_off


def turn(batch: str, submitter: str, *, there: int = 0, left: int = 1000) -> Turn:
    return Turn(batch=batch, submitter=submitter, open=there, left=left)


def test_turns_go_by_submitter_first_then_by_batch() -> None:
    turns = [turn("a1", "ann"), turn("a2", "ann"), turn("a3", "ann"), turn("b", "bob")]
    assert shares(turns, 12) == {"a1": 2, "a2": 2, "a3": 2, "b": 6}


def test_who_has_much_in_the_queue_waits_for_the_others() -> None:
    assert shares([turn("a", "ann", there=10), turn("b", "bob")], 6) == {"b": 6}
    assert shares([turn("a", "ann", there=10), turn("b", "bob", left=2)], 6) == {"b": 2, "a": 4}


def test_nobody_gets_more_than_there_is() -> None:
    assert shares([turn("a", "ann", left=3), turn("b", "bob", left=0)], 100) == {"a": 3}
    assert shares([turn("a", "ann")], 0) == shares([], 5) == {}


def test_the_window_follows_what_the_workers_end() -> None:
    pace, now = Pace(1.5), 0.0
    assert pace.look(now, ended=0, running=0, queued=0) == FIRST
    room = 0
    for _ in range(20):
        now += 0.5
        room = pace.look(now, ended=20, running=2, queued=10)
    assert 45 <= room <= 55, "40 a second end, 1.5 seconds of that may wait, 10 do"
    for _ in range(20):
        now += 0.5
        room = pace.look(now, ended=0, running=2, queued=LEAST)
    assert room == 0, "nothing ends: no more than a few wait"


def test_a_queue_that_ran_dry_gets_more() -> None:
    pace = Pace(1.5)
    first = pace.look(0.0, ended=0, running=0, queued=0)
    assert pace.look(0.5, ended=first, running=0, queued=0) >= 2 * first


async def test_a_single_job_in_the_middle_of_a_large_batch_is_soon_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the batch: what stands before it is what the window holds."""
    stores, looks = Memory(), itertools.count()
    monkeypatch.setattr(clock, "monotonic", lambda: next(looks) / 10)
    batch = await sealed(stores, tmp_path, 600)
    driving, mill = driver(stores), Mill(stores)
    for _ in range(6):
        await step(driving)
        await mill.grind(10)
    (tmp_path / "single").write_text("single")
    job = await Submitter(stores).submit(Submission(path=tmp_path / "single", name="single", kind=KIND))
    before = sum(mill.runs.values())
    while not mill.runs[job.id]:
        assert await mill.grind(10), "it is there"
    assert sum(mill.runs.values()) - before < 100
    assert (await work_off(stores, batch.id, driving, mill)).tally["completed"] == 600


async def test_a_small_batch_of_another_submitter_does_not_wait_for_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, looks = Memory(), itertools.count()
    monkeypatch.setattr(clock, "monotonic", lambda: next(looks) / 10)
    asked = [NewBatch(name=name, kind=KIND, submitter=name) for name in ("large", "small")]
    large = await sealed(stores, tmp_path, 400, name="large", asked=asked[0])
    driving, mill = driver(stores), Mill(stores)
    for _ in range(4):
        await step(driving)
        await mill.grind(10)
    small = await sealed(stores, tmp_path, 20, name="small", asked=asked[1])
    for _ in range(30):
        await step(driving)
        await mill.grind(10)
        if (await BatchTable(stores).get(small.id)).state.over:
            break
    assert (await BatchTable(stores).get(small.id)).all_completed
    assert (await BatchTable(stores).get(large.id)).ended < 200
    await step(driving)
    assert (await work_off(stores, large.id, driving, mill)).all_completed


async def test_many_batches_of_a_kind_that_nobody_works_on_hold_up_no_other(tmp_path: Path) -> None:
    stores = Memory()
    for number in range(105):
        await sealed(stores, tmp_path, 1, asked=NewBatch(name=f"idle {number}", kind="idle"))
    batch = await sealed(stores, tmp_path, 3)
    assert (await work_off(stores, batch.id, driver(stores), Mill(stores), looks=20)).all_completed


async def test_what_waits_for_its_next_attempt_holds_up_no_other(tmp_path: Path) -> None:
    """A hundred items that are tried again in an hour are open, and take no room."""
    stores = Memory()
    batch = await sealed(stores, tmp_path, 3 * PAGE)
    driving, mill, jobs = driver(stores), Mill(stores), JobTable(stores.table(TABLE))
    for _ in range(3):
        await step(driving)
    for row in (await stores.table(TABLE).list(limit=5000)).rows:
        later = clock.iso(clock.now() + timedelta(hours=1))
        await stores.table(TABLE).write(row.key, row.version, {"retries_at": later})
        mill.runs[row.key] = 1
    waiting = len(mill.runs)
    for _ in range(100):
        await step(driving)
        for job in (await jobs.list(limit=5000)).jobs:
            if not mill.runs[job.id]:
                await mill.run(job)
    now = await BatchTable(stores).get(batch.id)
    assert now.tally == dict.fromkeys(now.tally, 0) | {"queued": waiting, "completed": 3 * PAGE - waiting}


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, " padded"])
async def test_a_name_that_none_may_have(name: str) -> None:
    if name:
        with pytest.raises(InvalidParameterError):
            await BatchTable(Memory()).create(NewBatch(name=name, kind=KIND))
    with pytest.raises(UnknownBatchError):
        await BatchTable(Memory()).named(name)


async def test_a_name_belongs_to_one_batch_at_a_time(tmp_path: Path) -> None:
    stores = Memory()
    table, asked = BatchTable(stores), NewBatch(name="nightly", kind=KIND)
    batch = await table.create(asked)
    assert (await table.create(asked)).id == batch.id
    with pytest.raises(BatchStateError, match="open, for other jobs"):
        await table.create(NewBatch(name="nightly", kind=KIND, priority=Priority.LOW))
    await add(stores, batch, tmp_path, ["a"])
    await table.seal(batch.id)
    with pytest.raises(BatchStateError, match="on its way"):
        await table.create(asked)
    await work_off(stores, batch.id, driver(stores), Mill(stores))
    other = await table.create(asked)
    assert other.id != batch.id
    assert (await table.named("nightly")).id == other.id
    assert (await table.named(batch.id)).id == batch.id


async def test_a_slice_that_comes_after_the_sealing_is_refused(tmp_path: Path) -> None:
    stores = Memory()
    batch = await sealed(stores, tmp_path, 1)
    with pytest.raises(BatchStateError, match="nothing can be added"):
        await add(stores, batch, tmp_path, ["late"])


async def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    real = clock.now

    def now() -> datetime:
        return real() + timedelta(days=days)

    monkeypatch.setattr(clock, "now", now)


async def test_inputs_that_wait_are_not_garbage_and_a_job_waits_for_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = Memory()
    table = BatchTable(stores)
    opened = await table.create(NewBatch(name="open", kind=KIND))
    await add(stores, opened, tmp_path, ["a", "b"])
    running = await sealed(stores, tmp_path, 40, name="running")
    driving, mill = driver(stores), Mill(stores)
    for _ in range(3):
        await step(driving)
    await mill.grind(5)
    await step(driving)
    await later(monkeypatch, 8)
    garbage, retention = GarbageCollection(stores), Retention(stores, RetentionRules())
    for _ in range(3):
        await garbage.collect()
        await retention.apply()
    inputs = (await stores.blobs.list("inputs/")).names
    assert len(inputs) == 42
    assert (await JobTable(stores.table(TABLE)).counts())[JobState.COMPLETED] == 5, "they count in their batch"
    await table.cancel(opened.id)
    for each in (opened, running):
        over = await work_off(stores, each.id, driving, mill)
        assert over.state is (BatchState.CANCELLED if each is opened else BatchState.DONE)
    for _ in range(3):
        await garbage.collect()
    assert len((await stores.blobs.list("inputs/")).names) == 40, "those of the cancelled batch are gone"


async def test_results_of_a_long_batch_stay_for_their_time_after_its_end_and_hold_up_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rolehost.jobs.retention.PAGE", 4)
    stores = Memory()
    batch = await sealed(stores, tmp_path, 10)
    driving, mill, jobs = driver(stores), Mill(stores), JobTable(stores.table(TABLE))
    await step(driving)
    await step(driving)
    await mill.grind(9)
    (tmp_path / "single").write_text("single")
    single = await Submitter(stores).submit(Submission(path=tmp_path / "single", name="single", kind=KIND))
    await mill.run(single)
    retention = Retention(stores, RetentionRules())
    await later(monkeypatch, 8)
    for _ in range(4):
        await retention.apply()
    assert await jobs.read(single.id) is None
    assert (await work_off(stores, batch.id, driving, mill)).tally["completed"] == 10
    for _ in range(4):
        await retention.apply()
    assert (await jobs.counts())["completed"] == 10, "the batch has just ended"
    await later(monkeypatch, 8)
    for _ in range(6):
        await retention.apply()
    assert (await jobs.counts())["completed"] == 0


async def test_a_batch_that_is_over_goes_by_the_rules_and_leaves_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = Memory()
    table = BatchTable(stores)
    batch = await work_off(stores, (await sealed(stores, tmp_path, 3)).id, driver(stores), Mill(stores))
    retention = Retention(stores, RetentionRules())
    await retention.apply()
    assert (await table.get(batch.id)).state is BatchState.DONE
    await later(monkeypatch, 8)
    await retention.apply()
    assert await table.read(batch.id) is None
    assert (await stores.blobs.list("")).names == []
    with pytest.raises(UnknownBatchError):
        await table.named("batch")
    assert (await table.create(NewBatch(name="batch", kind=KIND))).id != batch.id


async def zipped(stores: Memory, batch: Batch) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join([piece async for piece in results_zip(stores, batch)])))


async def test_names_in_the_zip_are_unique_safe_and_below_it(tmp_path: Path) -> None:
    stores = Memory()
    table = BatchTable(stores)
    batch = await table.create(NewBatch(kind=KIND))
    names = ["a.txt", "A.txt", "../../up/a.txt", "x/con:1.txt", "errors.txt", ".hidden"]
    await add(stores, batch, tmp_path, names)
    await table.seal(batch.id)
    done = await work_off(stores, batch.id, driver(stores), Mill(stores, bad=frozenset({"errors.txt"})))
    with await zipped(stores, done) as archive:
        assert archive.testzip() is None
        found = archive.namelist()
        assert archive.read("errors.txt") == b"errors.txt\tfailed\tit is bad\n"
    assert len({name.casefold() for name in found}) == len(names)
    assert not any(part.startswith(".") for name in found for part in name.split("/"))
    assert {"up/a.txt.out", "x/con_1.txt.out", "hidden.out"} <= set(found)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a/b", "a/b"),
        ("/etc", "etc"),
        ("..\\..\\x", "x"),
        ("./. /a", "a"),
        ("", ""),
        ("C:/x", "C_/x"),
        ("a//b/", "a/b"),
    ],
)
def test_a_folder_of_the_zip_leads_nowhere_else(given: str, kept: str) -> None:
    assert safe_folder(given) == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("CON.png", "_CON.png"),
        ("nul", "_nul"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("console.png", "console.png"),
        ("日" * 100 + ".png", "日" * 78 + ".png"),
        ("x" * 255, "x" * 240),
    ],
)
def test_a_name_in_the_zip_can_be_a_files_on_every_system(given: str, kept: str) -> None:
    assert safe_name(given) == kept
    assert safe_folder(f"a/{given}/b") == f"a/{kept}/b"[:200]


def test_thousands_of_one_name_are_numbered_without_counting_anew_for_each() -> None:
    names, began = _Names(), time.process_time()
    found = [names.of("", name) for name in ("page.png", "page-2.png", *["page.png"] * 4000)]
    assert time.process_time() - began < 5, "it took 20 s when each began at 2"
    assert found[:4] == ["page.png", "page-2.png", "page-3.png", "page-4.png"]
    assert len(set(found)) == len(found)


async def test_a_zip_says_what_is_missing_and_breaks_off_rather_than_lie(tmp_path: Path) -> None:
    stores = Memory()
    batch = await work_off(stores, (await sealed(stores, tmp_path, 3)).id, driver(stores), Mill(stores))
    jobs = sorted((await JobTable(stores.table(TABLE)).list()).jobs, key=lambda job: job.spec.source.name)
    assert jobs[0].result is not None
    assert jobs[2].result is not None
    del stores.blobs.content[jobs[0].result.blob]
    await JobTable(stores.table(TABLE)).remove(jobs[1])
    with await zipped(stores, batch) as archive:
        assert archive.namelist() == ["batch-0002.txt.out", "errors.txt"]
        assert archive.read("errors.txt").decode().splitlines() == [
            "batch-0000.txt\tcompleted\tits result is gone",
            "batch-0001.txt\tremoved",
        ]
    stores.blobs.content[jobs[2].result.blob] += b"more"
    with pytest.raises(StoreError, match="is not what was made"):
        await zipped(stores, batch)


async def test_a_large_result_is_never_in_memory_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rolehost.jobs.batches.archive._SMALL", 3)
    monkeypatch.setattr("rolehost.jobs.batches.archive._ZIP64", 3)
    stores = Memory()
    batch = await work_off(stores, (await sealed(stores, tmp_path, 2)).id, driver(stores), Mill(stores))
    pieces = [piece async for piece in results_zip(stores, batch)]
    assert len(pieces) == 3, "one for each result, and the end"
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.read("batch-0000.txt.out") == b"content of batch-0000.txt"[::-1]


async def test_a_slice_that_comes_while_pages_are_made_changes_none_of_them(tmp_path: Path) -> None:
    """Whoever makes the pages again makes the same: the slices were listed once."""
    stores, faults = Memory(), Faults()
    table = BatchTable(stores)
    batch = await table.create(NewBatch(kind=KIND))
    await add(stores, batch, tmp_path, [f"m{number:03d}" for number in range(PAGE + 5)])
    await table.seal(batch.id)
    faults.refuse("blobs.put", at=3)
    with pytest.raises(StoreError):
        await BatchTable(FaultyStores(stores, faults)).manifest(batch.id).close()
    with pytest.raises(BatchStateError):
        await add(stores, batch, tmp_path, [f"a{number:03d}" for number in range(20)])
    manifest = table.manifest(batch.id)
    assert await manifest.close() == PAGE + 5
    names = [item.name for page in (0, 1) for item in await manifest.page(page)]
    assert names == [f"m{number:03d}" for number in range(PAGE + 5)]


async def test_what_no_queue_could_take_is_refused_when_it_is_added(tmp_path: Path) -> None:
    """Later nobody would be there to hear of it, and the batch would never end."""
    stores = Memory()
    batch = await BatchTable(stores).create(NewBatch(kind=KIND, given={"text": "x" * 70_000}))
    with pytest.raises(InvalidParameterError, match="too long"):
        await add(stores, batch, tmp_path, ["a"])
