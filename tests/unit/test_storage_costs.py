"""What a service costs on stores that bill each request: a job, an idle hour, and the first job after a long wait."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from prometheus_client.exposition import generate_latest

from rolehost import clock
from rolehost.cli.costs import cost_lines
from rolehost.cli.costs import costs as cli_costs
from rolehost.environment import RoleEnvironment
from rolehost.errors import StoreError
from rolehost.jobs.job import JobSpec, JobState
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Queue, QueueCapabilities, QueueLimits, QueueMessage, Stores, costs
from rolehost.stores.connect import connect
from rolehost.stores.costs import Prices, Usage, projected
from rolehost.stores.nudges import Nudged
from rolehost.telemetry import emit, transactions
from rolehost.telemetry.metrics import Metrics
from rolehost.telemetry.transactions import HEARTBEATS, JOBS, POLLING, SWEEPER, Ledger, spent_on
from rolehost.telemetry.transactions import count as count_request
from rolehost.workers.polling import LONGEST, IdleDelay, Poller
from rolehost.workers.queue_worker import QueueWorker
from rolehost.workers.scratch import Scratch
from rolehost.workers.settings import WorkerSettings
from support import azurite
from support.fake_clock import FakeClock
from support.stores import until

KIND = "work"
NUMBER = 64
SLOTS = 32


class Copier(QueueWorker):
    """As a user would write it."""

    kind = KIND

    def process(self, job: JobSpec, scratch: Scratch) -> Path:
        del job
        result = scratch.folder / "copy.bin"
        result.write_bytes(scratch.source.read_bytes())
        return result


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger that begins now; the module's own counts for the whole process."""
    fresh = Ledger()
    monkeypatch.setattr(transactions, "ledger", fresh)
    return fresh


async def submit(stores: Stores, folder: Path, number: int) -> None:
    submitter = Submitter(stores)

    async def one(which: int) -> None:
        asset = folder / f"asset-{which}"
        asset.write_bytes(b"an asset")
        await submitter.submit(Submission(path=asset, name="asset.bin", kind=KIND))

    await asyncio.gather(*(one(each) for each in range(number)))


async def completed(stores: Stores, number: int, within: float = 60.0) -> None:
    jobs, deadline = JobTable(stores.table(TABLE)), time.monotonic() + within
    while (await jobs.counts())[JobState.COMPLETED.value] < number:
        assert time.monotonic() < deadline, "the jobs were not done in time"
        await asyncio.sleep(0.2)


@asynccontextmanager
async def serving(folder: Path, **settings: str) -> AsyncIterator[None]:
    """The worker at work, until the end of the block."""
    worker, stopping = Copier(), asyncio.Event()
    (folder / "scratch").mkdir()
    worker.role_environment = RoleEnvironment.for_testing(
        settings={"Worker.DiskFloorBytes": "0", **settings}, local_resources={"Scratch": folder / "scratch"}
    )
    task = asyncio.create_task(worker.serve(stopping))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, 30)


async def test_a_job_costs_the_worker_five_requests_and_its_part_of_a_receive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    environ = azurite.environ(tmp_path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    async with connect(environ) as stores:
        await submit(stores, tmp_path, NUMBER)
        before = ledger.of(JOBS)
        async with serving(tmp_path, **{"Worker.Slots": str(SLOTS)}):
            await completed(stores, NUMBER)
    assert ledger.of(JOBS) - before <= 5.1 * NUMBER
    assert ledger.of(SWEEPER)
    assert ledger.of(HEARTBEATS)


class EmptyQueue:
    """As far as a poller knows a queue: it can't wait, and nothing is in it."""

    name = "work-jobs"
    limits = QueueLimits(largest_message=1, longest_hiding=1, receives_per_call=32)
    capabilities = QueueCapabilities(waits=False, rewrites_body=True, native_dead_letters=False, knows_depth=True)

    def __init__(self) -> None:
        self.messages: list[QueueMessage] = []
        self.asked = 0

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        del count, hide, wait
        self.asked += 1
        count_request("queue", "GET", "")
        found, self.messages = self.messages, []
        return found


async def poll(poller: Poller) -> None:
    while True:
        if not await poller.receive(1, wait=5.0):
            await poller.after_nothing()


async def test_an_idle_hour_costs_less_than_a_hundred_and_fifty_looks(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    time, queue = FakeClock(monkeypatch), EmptyQueue()
    polling = asyncio.create_task(poll(Poller(cast("Queue", queue), hiding=60)))
    await time.advance(3600)
    assert 3600 / LONGEST <= queue.asked < 150
    assert ledger.of(POLLING) == queue.asked
    first = queue.asked
    queue.messages = [QueueMessage(id="m", body="x")]
    await time.advance(LONGEST)  # it is found, and the next ones are looked for at once
    assert ledger.of(JOBS) == 1
    assert queue.asked - first > 5
    polling.cancel()


async def test_the_ceiling_is_settable(monkeypatch: pytest.MonkeyPatch) -> None:
    time, queue = FakeClock(monkeypatch), EmptyQueue()
    settings = WorkerSettings.of(RoleEnvironment.for_testing(settings={"Worker.PollSeconds": "120"}), {})
    polling = asyncio.create_task(poll(Poller(cast("Queue", queue), hiding=60, longest=settings.poll)))
    await time.advance(3600)
    assert queue.asked < 60
    polling.cancel()


async def test_processes_that_begin_together_do_not_ask_together(monkeypatch: pytest.MonkeyPatch) -> None:
    time, looks, polling = FakeClock(monkeypatch), list[float](), list[asyncio.Task[None]]()
    for _ in range(8):
        queue = NotingQueue(looks)
        polling.append(asyncio.create_task(poll(Poller(cast("Queue", queue), hiding=60))))
    await time.advance(600)
    late = sorted(at for at in looks if at > 300)
    assert len(set(late)) == len(late)
    for task in polling:
        task.cancel()


class NotingQueue(EmptyQueue):
    """Notes when it is asked."""

    def __init__(self, looks: list[float]) -> None:
        super().__init__()
        self.looks = looks

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        self.looks.append(clock.monotonic())
        return await super().receive(count, hide=hide, wait=wait)


async def test_a_submission_on_the_same_machine_wakes_a_worker_that_sleeps(tmp_path: Path) -> None:
    environ = azurite.environ(tmp_path)
    (tmp_path / "data").mkdir()
    async with connect(environ) as stores, connect(environ) as front_end:
        queue = stores.queue("work-jobs")
        poller = Poller(queue, hiding=30)
        poller._idle = IdleDelay(shortest=LONGEST)  # as after a long time without work
        looked = asyncio.create_task(_looked(poller))
        await until(lambda: any((tmp_path / "data" / "bells").iterdir()))
        begun = time.monotonic()
        await submit(front_end, tmp_path, 1)
        (message,) = await asyncio.wait_for(looked, 20)
        assert time.monotonic() - begun < LONGEST / 2
        assert message.body
        # Also by one that came between a look and the pause after it.
        assert not await poller.receive(1, wait=5.0)
        await submit(front_end, tmp_path, 1)
        await asyncio.wait_for(poller.after_nothing(), LONGEST / 2)


async def _looked(poller: Poller) -> Sequence[QueueMessage]:
    while not (messages := await poller.receive(1, wait=5.0)):
        await poller.after_nothing()
    return messages


async def test_without_a_data_directory_nothing_is_made_for_bells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with connect({"ROLEHOST_STORAGE": azurite.own_account(tmp_path)}) as stores:
        assert not isinstance(stores.queue("work-jobs"), Nudged)
    async with connect(azurite.environ(tmp_path)) as stores:
        assert not isinstance(stores.queue("work-jobs"), Nudged)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names are enough


async def test_what_is_spent_is_measured_by_purpose(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    time = FakeClock(monkeypatch)
    ledger = Ledger()
    monkeypatch.setattr(transactions, "ledger", ledger)
    with spent_on(JOBS):
        await asyncio.gather(*(_ask(each) for each in ("PUT", "GET", "DELETE")))
    with spent_on(POLLING, undecided=True) as spending:
        count_request("queue", "GET", "http://x/q/messages")
        spending.purpose = JOBS
    with spent_on(HEARTBEATS):
        count_request("table", "PUT", "http://x/t")
    count_request("blob", "GET", "http://x/c?restype=container&comp=list")
    ledger.note("job.completed")
    ledger.note("job.claimed")
    time.seconds += 1800
    text = generate_latest(Metrics(instance="W_IN_0").registry).decode()
    for line in (
        'rolehost_storage_transactions_total{kind="write",purpose="jobs",service="blob"} 1.0',
        'rolehost_storage_transactions_total{kind="read",purpose="jobs",service="queue"} 1.0',
        'rolehost_storage_transactions_total{kind="list",purpose="other",service="blob"} 1.0',
        "rolehost_storage_transactions_per_job 4.0",
        'rolehost_storage_transactions_per_idle_hour{purpose="heartbeats"} 2.0',
        'rolehost_storage_transactions_per_idle_hour{purpose="polling"} 0.0',
    ):
        assert line in text.splitlines()


async def _ask(method: str) -> None:
    count_request("blob", method, "http://x/c/b")


def test_the_bill_of_a_month_is_what_was_sent_times_its_price(tmp_path: Path) -> None:
    listed = Prices.read({})
    assert listed.as_of
    assert "LRS" in listed.note
    own = tmp_path / "prices.toml"
    text = Path(costs.__file__).with_name("prices.toml").read_text()
    own.write_text(text.replace("read = 0.004", "read = 1").replace('"USD"', '"EUR"'))
    prices = Prices.read({"ROLEHOST_PRICES": str(own)})
    usage = Usage(
        who="W_IN_0", seconds=3600, jobs=2, sent={("queue", "read", POLLING): 120, ("blob", "read", JOBS): 10}
    )
    bill = projected([usage, usage], prices, base=10)
    assert (prices.currency, bill.per_job, bill.per_idle_hour[POLLING]) == ("EUR", 5, 240)
    assert bill.by_purpose[POLLING] == pytest.approx(2 * 120 * 730 / 10_000)
    assert bill.total == pytest.approx(10 + 2 * 130 * 730 / 10_000)
    own.write_text("as_of = 1")
    with pytest.raises(StoreError, match=r"prices\.toml is no list of prices"):
        Prices.read({"ROLEHOST_PRICES": str(own)})


async def test_status_projects_the_bill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> None:
    environ = {**azurite.environ(tmp_path), "RoleInstanceID": "Worker_IN_0"}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(costs, "FIRST", 0.0)
    assert (await cli_costs(tmp_path / "data"))["projected_month"] is None
    async with connect(environ) as stores:
        await submit(stores, tmp_path, 1)
        emit("job.completed", job="a", attempt=1, bytes=3)
        deadline = time.monotonic() + 20
        while not (told := await cli_costs(tmp_path / "data"))["projected_month"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
    assert told["projected_month"]["total"] > 0
    assert told["prices"]["as_of"] == Prices.read({}).as_of
    assert told["processes"] == 1
    assert ledger.jobs == 1
    text = "\n".join(cost_lines(told))
    assert "a month if it goes on like this" in text
    assert "in an idle hour: polling" in text
    monkeypatch.setenv("ROLEHOST_STORAGE", "embedded")
    told = await cli_costs(tmp_path / "data")
    assert told == {"engine": "embedded", "projected_month": None}
    assert list(cost_lines(told)) == []
