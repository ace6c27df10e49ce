"""The inbox over the queues of all levels: whose turn it is, what waiting costs, and what one level's fault does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from rolehost.errors import InvalidParameterError, NotFoundError, StoreUnavailableError
from rolehost.jobs.job import Priority
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.levels import kind_of, parse_priority, queue_of, queues_of
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.submission import Submitter
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import QueueCapabilities, QueueLimits, QueueMessage, Stores
from rolehost.stores.connect import connect
from rolehost.stores.names import queue_name
from rolehost.telemetry import transactions
from rolehost.telemetry.transactions import POLLING, Ledger
from rolehost.telemetry.transactions import count as count_request
from rolehost.testing import FaultyStores
from rolehost.workers import levels as workers_levels
from rolehost.workers.known_levels import LIST_AGAIN, LIST_EVERY
from rolehost.workers.levels import AHEAD, LEFT_ALONE, LOOK_AGAIN, Levels, Turns
from rolehost.workers.polling import LONGEST, Poller
from support import azurite
from support.fake_clock import FakeClock
from support.jobs import Bench, open_bench
from support.stores import until

KIND = "work"
HIGH, NORMAL, LOW = (f"{KIND}-jobs{end}" for end in ("-high", "", "-low"))


def test_a_job_s_queue_follows_from_its_kind_and_its_level() -> None:
    assert list(queues_of(KIND).values()) == [HIGH, NORMAL, LOW]
    assert [kind_of(name) for name in (HIGH, NORMAL, LOW)] == [KIND] * 3
    assert kind_of("a-jobs-high-jobs") == "a-jobs-high"
    assert kind_of("a-jobs-jobs-low") == "a-jobs"
    assert [kind_of(name) for name in ("jobs", "a-jobs-urgent", "A-jobs", "a-jobs-high-poison")] == [None] * 4
    longest = kind_named("k" * 46).name
    for name in queues_of(longest).values():
        queue_name(f"{name}-poison")


def test_a_level_is_named_by_a_word() -> None:
    assert [parse_priority(word) for word in ("", " High ", "normal", "low")] == ["normal", "high", "normal", "low"]
    with pytest.raises(InvalidParameterError, match="priority must be one of high, normal, low, not 'urgent'") as told:
        parse_priority("urgent")
    assert told.value.field == "priority"


async def test_a_job_keeps_its_level_in_row_message_and_json(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        high = await bench.submit(priority=Priority.HIGH)
        usual = await bench.submit()
        assert (await bench.row(high.id)).spec.priority is Priority.HIGH
        assert queue_of(high.spec) == HIGH
        (message,) = await bench.inner.queue(HIGH).peek(9)
        told = WakeUp.decode(message.body).spec
        assert told is not None
        assert told.priority is Priority.HIGH
        assert high.to_json()["priority"] == "high"
        assert "priority" not in usual.to_json()


@pytest.mark.parametrize(
    ("waiting", "share"),
    [
        ({Priority.HIGH, Priority.NORMAL, Priority.LOW}, {"high": 90, "normal": 10, "low": 10}),
        ({Priority.HIGH, Priority.LOW}, {"high": 99, "low": 11}),
        ({Priority.NORMAL, Priority.LOW}, {"normal": 99, "low": 11}),
        ({Priority.LOW}, {"low": 110}),
    ],
)
@pytest.mark.parametrize("at_a_time", [1, 5])
def test_no_level_starves(waiting: set[Priority], share: dict[str, int], at_a_time: int) -> None:
    turns, given = Turns(), Counter[str]()
    while given.total() < 110:
        turn = turns.next()
        level = next(each for each in turn.order if each in waiting)
        number = turn.count(level, at_a_time)
        turns.received(turn, level, number)
        given[level] += number
    assert given.keys() == share.keys()
    assert all(abs(given[level] - share[level]) <= 2 * at_a_time for level in share)


def test_what_a_level_gets_too_much_at_its_turn_is_owed() -> None:
    turns = Turns()
    turns.received(turns.next(), Priority.HIGH, 9)
    turn = turns.next()
    assert turn.order[0] is Priority.LOW
    turns.received(turn, Priority.LOW, 3)
    assert turns.next().order[0] is Priority.NORMAL
    for _ in range(26):
        turn = turns.next()
        assert turn.order[0] is not Priority.LOW
        turns.received(turn, Priority.HIGH, 1)
    turns.received(turns.next(), Priority.HIGH, 1)
    assert turns.next().order[0] is Priority.LOW


class Shelf:
    """A queue with messages, as far as an inbox knows one."""

    limits = QueueLimits(largest_message=1, longest_hiding=1, receives_per_call=32)

    def __init__(self, name: str, *, waits: bool) -> None:
        self.name = name
        self.capabilities = QueueCapabilities(
            waits=waits, rewrites_body=True, native_dead_letters=False, knows_depth=True, answers_at_once=not waits
        )
        self.messages: list[str] = []
        self.asked = 0
        self.released: list[str] = []
        self.error: Exception | None = None
        self.news = asyncio.Event()
        self.rung = asyncio.Event()

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        del hide
        self.asked += 1
        count_request("queue", "GET", "")
        if self.error:
            raise self.error
        if self.capabilities.waits and not self.messages:
            self.news.clear()
            try:
                await asyncio.wait_for(self.news.wait(), wait)
            except TimeoutError:
                return ()
        taken, self.messages = self.messages[:count], self.messages[count:]
        return [QueueMessage(id=name, body=name) for name in taken]

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        del delay, body
        self.released.append(message.id)

    def put(self, *names: str) -> None:
        self.messages += names
        self.news.set()


class Shelves:
    """Stores with such queues; those of `there` are listed."""

    def __init__(self, *, waits: bool) -> None:
        self.all = {name: Shelf(name, waits=waits) for name in (HIGH, NORMAL, LOW)}
        self.there: set[str] = set()
        self.lists = 0

    def queue(self, name: str) -> Shelf:
        return self.all[name]

    async def queues(self) -> Sequence[str]:
        self.lists += 1
        count_request("queue", "GET", "?comp=list")
        return sorted(self.there)

    @property
    def asked(self) -> list[int]:
        return [each.asked for each in self.all.values()]


def levels(shelves: Shelves) -> Levels:
    return Levels(cast("Stores", shelves), KIND)


async def poll(poller: Poller) -> None:
    while True:
        if not await poller.receive(1, wait=5.0):
            await poller.after_nothing()


@pytest.mark.parametrize("there", [(), (HIGH,), (HIGH, LOW)])
async def test_an_idle_hour_costs_less_than_a_hundred_and_fifty_requests_whatever_levels_there_are(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...]
) -> None:
    ledger = Ledger()
    monkeypatch.setattr(transactions, "ledger", ledger)
    time, shelves = FakeClock(monkeypatch), Shelves(waits=False)
    shelves.there |= set(there)
    polling = asyncio.create_task(poll(Poller(levels(shelves), hiding=60)))
    await time.advance(3600)
    polling.cancel()
    assert 3600 / LONGEST <= ledger.of(POLLING) < 150
    assert ledger.of(POLLING) == shelves.lists + sum(shelves.asked)
    looked_at = {name for name, shelf in shelves.all.items() if shelf.asked}
    assert looked_at == {NORMAL, *there}


async def test_a_level_that_is_used_for_the_first_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    time, shelves = FakeClock(monkeypatch), Shelves(waits=False)
    inbox = levels(shelves)
    assert not await inbox.receive(1, hide=1)
    assert inbox.ahead(60) == 15
    shelves.there.add(LOW)
    shelves.all[LOW].put("first")
    assert not await inbox.receive(1, hide=1)
    await time.advance(LIST_EVERY)
    (message,) = await inbox.receive(1, hide=1)
    assert message.queue == LOW
    assert inbox.ahead(60) == AHEAD  # while there was one level a quarter of a lease was fetched
    assert shelves.asked[0] == 0  # a look would make the queue


async def test_a_bell_tells_of_a_level_that_is_used_for_the_first_time(tmp_path: Path) -> None:
    environ = azurite.environ(tmp_path)
    (tmp_path / "data").mkdir()
    async with connect(environ) as stores, connect(environ) as front_end:
        inbox = Levels(stores, KIND)
        assert not await inbox.receive(1, hide=30)
        inbox._known._listed = -LIST_AGAIN  # as when the last list is not of this moment
        waiting = asyncio.create_task(inbox.nudged(LONGEST))
        await until(lambda: any((tmp_path / "data" / "bells").iterdir()))
        await front_end.queue(HIGH).put("x", message_id="m")
        await asyncio.wait_for(waiting, LONGEST / 2)
        (message,) = await inbox.receive(1, hide=30)
        assert message.queue == HIGH
        renewed = await inbox.renew(message, hide=30)
        assert renewed.queue == HIGH
        await inbox.complete(renewed)


async def test_empty_levels_are_looked_at_seldom_while_there_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    time, shelves = FakeClock(monkeypatch), Shelves(waits=False)
    shelves.there |= {HIGH, LOW}
    inbox = levels(shelves)
    shelves.all[NORMAL].put(*(str(number) for number in range(200)))
    for _ in range(100):
        assert await inbox.receive(1, hide=1)
        await time.advance(LOOK_AGAIN / 10)
    assert shelves.asked[0] <= 11
    assert shelves.asked[1] == 100
    assert shelves.asked[2] <= 11
    shelves.all[HIGH].put("urgent")
    await time.advance(LOOK_AGAIN)
    assert [message.id for message in await inbox.receive(1, hide=1)] == ["urgent"]


@pytest.mark.parametrize("waits", [True, False])
async def test_the_fault_of_another_level_does_not_stop_the_normal_one(
    monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    shelves = Shelves(waits=waits)
    shelves.there |= {HIGH, LOW}
    shelves.all[HIGH].error = NotFoundError("there is no such queue, and we may not make it")
    shelves.all[NORMAL].put("a", "b")
    time, inbox = FakeClock(monkeypatch), levels(shelves)
    for expected in ("a", "b"):
        assert [message.id for message in await inbox.receive(1, hide=1, wait=1)] == [expected]
    assert shelves.asked[0] == 1
    shelves.all[HIGH].error = None
    shelves.all[HIGH].put("c")
    await time.advance(LEFT_ALONE)
    assert [message.id for message in await inbox.receive(1, hide=1, wait=1)] == ["c"]
    shelves.all[NORMAL].error = StoreUnavailableError("silence")
    await inbox.end()
    with pytest.raises(StoreUnavailableError):
        await inbox.receive(1, hide=1, wait=1)
    await inbox.end()


async def test_where_messages_are_pushed_the_best_one_is_taken_and_the_others_stay_at_hand() -> None:
    shelves = Shelves(waits=True)
    inbox = levels(shelves)
    waiting = asyncio.create_task(inbox.receive(1, hide=1, wait=5))
    await until(lambda: shelves.asked == [1, 1, 1])
    for name, message in ((LOW, "l"), (NORMAL, "n"), (HIGH, "h")):
        shelves.all[name].put(message)
    assert [message.id for message in await waiting] == ["h"]
    assert [message.id for message in await inbox.receive(1, hide=1, wait=5)] == ["n"]
    await inbox.end()
    assert shelves.all[LOW].released == ["l"]


async def test_a_better_level_may_take_a_moment_for_its_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_levels, "GRACE", 30.0)
    shelves = Shelves(waits=True)
    inbox = levels(shelves)
    shelves.all[NORMAL].put("n")
    waiting = asyncio.create_task(inbox.receive(1, hide=1, wait=60))
    await until(lambda: not shelves.all[NORMAL].messages)
    shelves.all[HIGH].put("h")
    assert [message.id for message in await waiting] == ["h"]
    await inbox.end()
    assert shelves.all[NORMAL].released == ["n"]


async def test_what_nobody_asks_for_in_time_is_given_back() -> None:
    shelves = Shelves(waits=True)
    inbox = levels(shelves)
    shelves.all[NORMAL].put("n")
    assert await inbox.receive(1, hide=1, wait=5)
    shelves.all[HIGH].put("h")
    await until(lambda: shelves.all[HIGH].released == ["h"])
    await inbox.end()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


async def test_a_cancelled_receive_takes_nothing_with_it(bench: Bench) -> None:
    inbox = Levels(bench.inner, KIND)
    waiting = asyncio.create_task(inbox.receive(1, hide=30, wait=5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    for level in Priority:
        await bench.submit(priority=level)
    told = [(await inbox.receive(9, hide=30, wait=5))[0].queue for _ in Priority]
    assert told == [HIGH, NORMAL, LOW]


async def test_any_level_wakes_who_waits(bench: Bench) -> None:
    inbox = Levels(bench.inner, KIND)
    for level in (Priority.LOW, Priority.HIGH, Priority.NORMAL):
        waiting = asyncio.create_task(inbox.receive(1, hide=30, wait=30))
        await _listening(bench)
        job = await bench.submit(priority=level)
        (message,) = await asyncio.wait_for(waiting, 10)
        assert WakeUp.decode(message.body).job == job.id
        await inbox.complete(message)


async def _listening(bench: Bench) -> None:
    bells = bench.folder / "data" / "bells"
    heard: Callable[[], bool] = lambda: bells.is_dir() and any(bells.iterdir())  # noqa: E731 - a word for it
    await until(heard)


async def test_recovery_wakes_a_job_by_the_queue_of_its_level(bench: Bench) -> None:
    stores = FaultyStores(bench.inner, bench.faults, outbox=True)
    bench.faults.refuse("queue.put")
    job = await Submitter(stores).submit(bench.asked(priority=Priority.LOW))
    assert not await bench.inner.queue(LOW).peek(9)
    recovery = Recovery(bench.inner, lease=2.0)
    for _ in range(2):  # a note is left alone until it was met twice
        await recovery.sweep()
    (message,) = await bench.inner.queue(LOW).peek(9)
    assert WakeUp.decode(message.body).job == job.id
    assert not await bench.inner.queue(NORMAL).peek(9)
