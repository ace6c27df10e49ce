"""Step 2, as a role: slots, the line before them, and the drain. Workers here are what a user would write."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.environment import RoleEnvironment
from rolehost.errors import RoleEnvironmentError, StoreFullError
from rolehost.jobs.job import Charges, End, Job, JobSpec, JobState
from rolehost.workers.outcome import Outcome
from rolehost.workers.queue_worker import MOST_UPLOADS, QueueWorker, _Loop
from rolehost.workers.scratch import Scratch
from support.jobs import KIND, Bench, open_bench, until


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setenv("ROLEHOST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ROLEHOST_DRAIN_SECONDS", "25")
    async with open_bench(tmp_path) as bench:
        yield bench


def role_environment(bench: Bench, **settings: str) -> RoleEnvironment:
    chosen = {"Worker.Slots": "2", "Worker.LeaseSeconds": "6", "Worker.RetryBaseSeconds": "0", **settings}
    return RoleEnvironment.for_testing(
        settings={**chosen, "Worker.RetryMaxSeconds": "0.05"}, local_resources={"Scratch": bench.root}
    )


@asynccontextmanager
async def serving(worker: QueueWorker, environment: RoleEnvironment) -> AsyncIterator[asyncio.Event]:
    """The worker at work; setting the event begins its drain, which is over when the block is."""
    worker.role_environment = environment
    stopping = asyncio.Event()
    task = asyncio.create_task(worker.serve(stopping))
    try:
        yield stopping
    finally:
        stopping.set()
        await asyncio.wait_for(task, 10)


@asynccontextmanager
async def looping(bench: Bench, worker: QueueWorker) -> AsyncIterator[asyncio.Event]:
    """The same without a role around it: the stores are the test's, with their faults."""
    stopping = asyncio.Event()
    task = asyncio.create_task(_Loop(worker, bench.desk, bench.root).work(stopping))
    try:
        yield stopping
    finally:
        stopping.set()
        await asyncio.wait_for(task, 10)


async def jobs_in(bench: Bench, state: JobState) -> int:
    return (await bench.desk.jobs.counts())[state.value]


def at_least(bench: Bench, state: JobState, count: int) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        return await jobs_in(bench, state) >= count

    return enough


class Copier(QueueWorker):
    """A plain function; it can be held up from the n-th job on, and counts how many run at once."""

    kind = KIND

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.held_from = 1
        self.begun = 0
        self.lock = threading.Lock()
        self.now = 0
        self.most = 0
        self.threads: set[int] = set()

    def process(self, job: JobSpec, scratch: Scratch) -> Path | Outcome | Awaitable[Path | Outcome]:
        del job
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.threads.add(threading.get_ident())
            self.begun += 1
            held = self.begun >= self.held_from
        if held:
            self.gate.wait(20)
        result = scratch.folder / "copy.bin"
        result.write_bytes(scratch.source.read_bytes())
        with self.lock:
            self.now -= 1
        return result


@pytest.fixture
def copier() -> Copier:
    return Copier()


async def test_slots_are_filled_and_never_exceeded(bench: Bench, copier: Copier) -> None:
    copier.gate.clear()
    for _ in range(12):
        await bench.submit()
    async with serving(copier, role_environment(bench, **{"Worker.Slots": "3"})):
        await until(lambda: at_work(copier, 3))
        assert (await jobs_in(bench, JobState.RUNNING), await jobs_in(bench, JobState.QUEUED)) == (3, 9)
        copier.gate.set()
        await until(at_least(bench, JobState.COMPLETED, 12))
    assert copier.most == 3
    assert threading.get_ident() not in copier.threads
    assert await bench.counts() == (0, 0, 0)


async def at_work(copier: Copier, count: int) -> bool:
    return copier.now == count


async def test_a_worker_that_waits_takes_what_comes(bench: Bench, copier: Copier) -> None:
    async with serving(copier, role_environment(bench)):
        jobs: list[Job] = []
        for count in (1, 2, 3):
            begun = clock.monotonic()
            jobs.append(await bench.submit())
            await until(at_least(bench, JobState.COMPLETED, count))
            assert clock.monotonic() - begun < 1
        done = await bench.row(jobs[-1].id)
        assert done.result is not None
        assert (done.result.name, done.attempts[0].instance) == ("copy.bin", "Role_IN_0")


async def test_what_is_received_ahead_is_not_claimed_and_is_given_back_at_once(bench: Bench, copier: Copier) -> None:
    copier.gate.clear()
    copier.held_from = 3  # by then the worker knows how quick its jobs are
    for _ in range(12):
        await bench.submit()
    settings = {"Worker.Slots": "1", "Worker.LeaseSeconds": "30"}  # a busy machine's jobs are quick for such a lease
    async with serving(copier, role_environment(bench, **settings)) as stopping:
        await until(lambda: at_work(copier, 1))
        await until(at_least(bench, JobState.COMPLETED, 2))
        await until(lambda: hidden(bench, at_least=5))
        assert await jobs_in(bench, JobState.RUNNING) == 1
        queued = await jobs_in(bench, JobState.QUEUED)
        assert queued >= 5
        stopping.set()
        await until(lambda: visible(bench, queued), within=2)  # while the slot is still taken
        assert await jobs_in(bench, JobState.RUNNING) == 1
        copier.gate.set()
    assert await jobs_in(bench, JobState.RUNNING) == 0
    assert (await bench.counts())[1] == 0
    assert await jobs_in(bench, JobState.QUEUED) == queued  # nothing was begun during the drain


async def hidden(bench: Bench, *, at_least: int) -> bool:
    return ((await bench.counts())[1] or 0) >= at_least


async def visible(bench: Bench, count: int) -> bool:
    return (await bench.counts())[0] == count


async def test_a_drain_lets_what_fits_finish(bench: Bench, copier: Copier) -> None:
    copier.gate.clear()
    job = await bench.submit()
    async with serving(copier, role_environment(bench)) as stopping:
        await until(at_least(bench, JobState.RUNNING, 1))
        stopping.set()
        await until(lambda: told(bench, "worker.draining"))
        copier.gate.set()
    assert (await bench.row(job.id)).state is JobState.COMPLETED


async def told(bench: Bench, event: str) -> bool:
    return bool(bench.told(event))


async def test_a_plain_function_that_hangs_does_not_stop_the_drain(
    bench: Bench, copier: Copier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLEHOST_DRAIN_SECONDS", "2.2")  # a second of it for TERM and KILL, a second for the row
    copier.gate.clear()
    job = await bench.submit()
    begun = clock.monotonic()
    async with serving(copier, role_environment(bench)):
        await until(at_least(bench, JobState.RUNNING, 1))
        begun = clock.monotonic()
    assert clock.monotonic() - begun < 2.2
    row = await bench.row(job.id)
    assert (row.state, [attempt.end for attempt in row.attempts]) == (JobState.QUEUED, [End.DRAINED])
    assert row.charges == Charges()
    assert await bench.counts() == (1, 0, 0)
    copier.gate.set()


async def test_a_host_that_waits_for_less_gets_less(bench: Bench, copier: Copier) -> None:
    copier.gate.clear()
    await bench.submit()
    async with serving(copier, role_environment(bench)) as stopping:
        await until(at_least(bench, JobState.RUNNING, 1))
        copier.stop_deadline = clock.monotonic() + 2.2
        stopping.set()
        await until(at_least(bench, JobState.QUEUED, 1), within=2.2)
    copier.gate.set()


async def test_an_idle_worker_drains_at_once(bench: Bench, copier: Copier) -> None:
    async with serving(copier, role_environment(bench)):
        await until(lambda: fifos(bench))
        begun = clock.monotonic()
    assert clock.monotonic() - begun < 1


async def fifos(bench: Bench) -> bool:
    """Whether the worker has come to the point of waiting."""
    return any(path.name[0] != "." for path in (bench.folder / "data" / "bells").iterdir())


async def test_a_message_that_comes_as_the_worker_stops_is_not_hidden(bench: Bench, copier: Copier) -> None:
    """Whoever stops a receive must not leave what it had taken hidden for a lease."""
    for moment in range(10):
        async with serving(copier, role_environment(bench)) as stopping:
            await until(lambda: fifos(bench))
            submitting = asyncio.create_task(bench.submit())
            await asyncio.sleep(moment / 2500)
            stopping.set()
        await submitting
        counted = await bench.counts()
        assert counted[1] == 0, f"hidden in round {moment}: {counted}"


async def test_a_receive_that_is_cut_short_gives_back_what_it_had_taken(bench: Bench, copier: Copier) -> None:
    """The loop is held up at each of its turns in a row, so that the answer is there and not yet heard."""
    for turns in range(16):
        loop = _Loop(copier, bench.desk, bench.root)
        asked = bench.faults.calls.count("queue.receive")
        feeding = asyncio.create_task(loop._feed())
        await until(lambda asked=asked: receives(bench, asked + 1))  # type: ignore[misc]
        job = await bench.submit()
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.004)  # noqa: ASYNC251 - the loop is held up on purpose
        feeding.cancel()
        await asyncio.wait([feeding])
        await until(lambda job=job: free_or_done(bench, job), within=1)  # type: ignore[misc]
        await bench.inner.table("jobs").delete(job.id, (await bench.row(job.id)).version)
        if await visible(bench, 1):
            await bench.inner.queue("work-jobs").complete(await bench.receive())


async def receives(bench: Bench, count: int) -> bool:
    return bench.faults.calls.count("queue.receive") == count


async def free_or_done(bench: Bench, job: Job) -> bool:
    return await visible(bench, 1) or (
        (await bench.row(job.id)).state is JobState.COMPLETED and await bench.counts() == (0, 0, 0)
    )


class Reader(QueueWorker):
    """A coroutine function."""

    kind = KIND

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    async def process(self, job: JobSpec, scratch: Scratch) -> Path:
        self.loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(0 if job.parameters.get("quick") else 60)
        finally:
            self.ended.set()
        result = scratch.folder / "result"
        result.write_bytes(b"r")
        return result


async def test_a_coroutine_runs_on_a_loop_of_its_own(bench: Bench) -> None:
    worker = Reader()
    await bench.submit(given={"quick": "1"})
    async with serving(worker, role_environment(bench)):
        await until(at_least(bench, JobState.COMPLETED, 1))
    assert worker.loop is not None
    assert worker.loop is not asyncio.get_running_loop()


async def has_begun(worker: Reader) -> bool:
    return worker.loop is not None


async def test_a_coroutine_that_is_drained_is_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEHOST_DRAIN_SECONDS", "1")
    worker = Reader()
    job = await bench.submit()
    async with serving(worker, role_environment(bench)):
        await until(lambda: has_begun(worker))
    assert [attempt.end for attempt in (await bench.row(job.id)).attempts] == [End.DRAINED]
    assert await asyncio.to_thread(worker.ended.wait, 5)


async def test_a_store_that_does_not_answer_is_asked_again(bench: Bench, copier: Copier) -> None:
    bench.faults.refuse("queue.receive")
    await bench.submit()
    async with looping(bench, copier):
        await until(at_least(bench, JobState.COMPLETED, 1))
    assert [facts["what"] for facts in bench.told("store.unavailable")] == ["receive"]


async def test_a_full_disk_does_not_stop_the_drain(bench: Bench, copier: Copier) -> None:
    """Nothing can be given back, and still what runs is ended in order."""
    copier.gate.clear()
    copier.held_from = 3
    for _ in range(12):
        await bench.submit()
    async with looping(bench, copier) as stopping:
        await until(lambda: hidden(bench, at_least=5))
        bench.faults.refuse("queue.release", times=None, error=StoreFullError)
        stopping.set()
        await until(lambda: told(bench, "worker.draining"))
        copier.gate.set()
    assert await jobs_in(bench, JobState.RUNNING) == 0
    assert bench.told("worker.drained")


async def test_slow_uploads_hold_up_the_slots_in_the_end(bench: Bench, copier: Copier) -> None:
    most = 1 + MOST_UPLOADS
    for _ in range(most + 5):
        await bench.submit()
    bench.faults.delay("blobs.put", 0.5, times=most)
    async with looping(bench, copier):
        await until(at_least(bench, JobState.RUNNING, most))
        await until(lambda: puts(bench, most))
        assert await jobs_in(bench, JobState.RUNNING) == most
        await until(at_least(bench, JobState.COMPLETED, most + 5))


async def puts(bench: Bench, count: int) -> bool:
    return bench.faults.calls.count("blobs.put") == count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Worker.Slots", "many"),
        ("Worker.Slots", "0"),
        ("Worker.Slots", "inf"),
        ("Worker.LeaseSeconds", "nan"),
        ("Worker.LeaseSeconds", "0.1"),
        ("Worker.TimeoutSeconds", "-1"),
    ],
)
async def test_a_setting_that_makes_no_sense_is_named(bench: Bench, copier: Copier, name: str, value: str) -> None:
    copier.role_environment = role_environment(bench, **{name: value})
    with pytest.raises(RoleEnvironmentError, match=name):
        await copier.serve(asyncio.Event())


async def test_a_coroutine_is_cancelled_however_early_it_is_drained(bench: Bench) -> None:
    """Also before its loop has heard of it: it must not run on by itself."""
    for turns in range(8):
        worker = Reader()
        task = asyncio.create_task(worker.attempt((await bench.submit()).spec, Scratch(bench.root, bench.root)))
        for _ in range(turns):
            await asyncio.sleep(turns / 5000)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        if worker.loop is not None:
            assert await asyncio.to_thread(worker.ended.wait, 5)
