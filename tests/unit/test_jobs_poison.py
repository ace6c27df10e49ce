"""The poison desk: replaying makes a new job, purging leaves nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.errors import InvalidParameterError, StoreUnavailableError, UnknownJobError
from rolehost.jobs.job import Charges, End, Job, JobState, new_id
from rolehost.jobs.poison import PoisonDesk
from rolehost.jobs.table import DEBT
from support.jobs import CONTENT, Bench, open_bench, succeed


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


async def poisoned(bench: Bench) -> Job:
    job = await bench.submit(name="a.bin", given={"n": "1"}, batch="b")
    await bench.end_once(End.POISON_NOW, "it is hopeless", stdout="x" * 10_000)
    job = await bench.row(job.id)
    assert (job.state, await bench.counts()) == (JobState.POISONED, (0, 0, 1))
    return job


async def failed(bench: Bench) -> Job:
    job = await bench.submit()
    await bench.end_once(End.BAD_INPUT)
    return await bench.row(job.id)


async def test_a_replay_is_a_new_job_that_names_its_origin(bench: Bench) -> None:
    old = await poisoned(bench)
    new = await PoisonDesk(bench.stores).replay(old.id)
    assert (new.state, new.spec.origin, new.charges, new.attempts) == (JobState.QUEUED, old.id, Charges(), ())
    assert new.spec.parameters == old.spec.parameters
    assert (new.spec.source.name, new.spec.batch) == ("a.bin", "b")
    assert await bench.row(old.id) == old  # never changed
    assert await bench.counts() == (1, 0, 1)


async def test_a_replay_has_its_own_copy_of_the_input(bench: Bench) -> None:
    old = await poisoned(bench)
    desk = PoisonDesk(bench.stores)
    new = await desk.replay(old.id)
    await desk.purge(old.id)
    await bench.process(succeed)
    done = await bench.row(new.id)
    assert done.state is JobState.COMPLETED
    assert done.result is not None
    target = bench.folder / "result"
    await bench.inner.blobs.download(done.result.blob, target)
    assert target.read_bytes() == CONTENT[::-1]


async def test_a_failed_job_can_be_replayed_too_and_others_can_not(bench: Bench) -> None:
    desk = PoisonDesk(bench.stores)
    assert (await desk.replay((await failed(bench)).id)).spec.origin
    queued = await bench.submit()
    for action in (desk.replay, desk.purge):
        with pytest.raises(InvalidParameterError, match="is queued; only a poisoned or failed job"):
            await action(queued.id)
        with pytest.raises(UnknownJobError):
            await action(new_id())
    assert (await bench.row(queued.id)).version == queued.version


async def test_a_purge_removes_message_blobs_and_row(bench: Bench) -> None:
    old = await poisoned(bench)
    neighbour = await poisoned_too(bench)
    assert await bench.blobs(f"logs/{old.id}/")
    await PoisonDesk(bench.stores).purge(old.id)
    assert await bench.inner.table("jobs").read(old.id) is None
    assert [name for name in await bench.blobs("") if old.id in name] == []
    assert [neighbour.id in message.body for message in await bench.inner.queue("work-jobs").peek(9, dead=True)] == [
        True
    ]
    assert await bench.inner.table("jobs").notes(DEBT) == []
    assert await bench.blobs(f"inputs/{neighbour.id}/")


async def poisoned_too(bench: Bench) -> Job:
    job = await bench.submit()
    await bench.end_once(End.POISON_NOW)
    return job


@pytest.mark.parametrize(
    "call", ["queue.dead", "queue.remove_dead", "jobs.drop_note", "blobs.delete", "replays.delete", "jobs.delete"]
)
async def test_a_purge_that_was_interrupted_can_be_repeated(bench: Bench, call: str) -> None:
    old = await poisoned(bench)
    desk = PoisonDesk(bench.stores)
    new = await desk.replay(old.id)
    await bench.process(succeed)
    bench.faults.refuse(call)
    with pytest.raises(StoreUnavailableError):
        await desk.purge(old.id)
    await desk.purge(old.id)
    assert await bench.inner.table("jobs").read(old.id) is None
    assert await bench.inner.table("replays").read(old.id) is None
    assert not [name for name in await bench.blobs("") if new.id not in name]
    assert await bench.counts() == (0, 0, 0)


async def test_the_desk_lists_the_poisoned_only(bench: Bench) -> None:
    await failed(bench)
    old = await poisoned(bench)
    page = await PoisonDesk(bench.stores).list()
    assert [entry.id for entry in page.entries] == [old.id]
    assert page.entries[0].reason == "poison_now: it is hopeless"
