"""The Service Bus engine, on the stand-in, when things go wrong."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import pytest_asyncio

from rolehost.errors import (
    NotFoundError,
    ReceiptMismatchError,
    StoreError,
    StoreForbiddenError,
    StoreThrottledError,
    StoreUnavailableError,
)
from rolehost.stores import QueueCounts, QueueMessage
from rolehost.stores.service_bus import Bounds, QueueFacts, Reach, ServiceBusQueues
from rolehost.telemetry import subscribe
from support.service_bus import QueueOptions, StandIn
from support.service_bus.under_test import certificate, service_bus_queues
from support.stores import receive, until, unused

T = TypeVar("T")

QUEUE = "thumbnails"
QUICK = Bounds(operation=0.8, opening=1.5, silence=1.5)


pytestmark = pytest.mark.asyncio(loop_scope="module")


def stand_in() -> StandIn:
    return StandIn(
        {
            QUEUE: QueueOptions(max_delivery_count=1000),
            "unique": QueueOptions(duplicate_window=60),
            "short": QueueOptions(lock_seconds=1.2),
            "Some.Others/queue": QueueOptions(),
        }
    )


@pytest.fixture(scope="module")
def shared_bus() -> Iterator[StandIn]:
    """For what the links outlive: to open and to close one takes half a second each."""
    with stand_in() as shared:
        yield shared


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_queues(shared_bus: StandIn) -> AsyncIterator[ServiceBusQueues]:
    async with opened(shared_bus) as shared:
        yield shared


@pytest.fixture
def bus(shared_bus: StandIn) -> Iterator[StandIn]:
    shared_bus.forget()
    yield shared_bus
    assert shared_bus.broker.errors == []


@pytest.fixture
def queues(shared_queues: ServiceBusQueues, bus: StandIn) -> ServiceBusQueues:
    assert bus.broker.errors == []
    return shared_queues


@pytest.fixture
def own_bus() -> Iterator[StandIn]:
    """For what makes links useless for a while."""
    with stand_in() as own:
        yield own
        assert own.broker.errors == []


@asynccontextmanager
async def opened(bus: StandIn, bounds: Bounds | None = None) -> AsyncIterator[ServiceBusQueues]:
    queues = await ServiceBusQueues.open(bus.connection_string, bounds=bounds)
    try:
        yield queues
    finally:
        await queues.close()


async def persistently(call: Callable[[], Awaitable[T]]) -> T:
    """Do it until the broker answers."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                await asyncio.sleep(0.1)


def requests(bus: StandIn, operation: str) -> int:
    return sum(asked == operation for _, asked in bus.broker.requests)


async def test_a_lock_that_is_shorter_than_the_hiding_is_renewed(bus: StandIn, queues: ServiceBusQueues) -> None:
    queue = queues.queue("short")
    await queue.put("x", message_id="job:0")
    (message,) = await queue.receive(1, hide=3)
    assert not await queue.receive(1, hide=4, wait=2.5)
    assert requests(bus, "renew-lock") >= 2
    (again,) = await receive(queue)
    assert (again.id, again.dequeue_count) == ("job:0", 2)
    with pytest.raises(ReceiptMismatchError):
        await queue.complete(message)


async def test_a_lock_that_could_not_be_renewed_is_lost_and_said_so(bus: StandIn, queues: ServiceBusQueues) -> None:
    queue = queues.queue("short")
    await queue.put("x", message_id="job:0")
    (message,) = await queue.receive(1, hide=60)
    bus.be_busy()
    await until(lambda: not bus.counts("short")["locked"])
    bus.be_busy(busy=False)
    with pytest.raises(ReceiptMismatchError):
        await queue.renew(message, hide=60)
    (again,) = await receive(queue)
    await queue.complete(again)


@pytest.mark.parametrize("how", ["close", "abort", "detach"])
async def test_links_come_back_and_what_was_received_before_is_still_ours(
    bus: StandIn, queues: ServiceBusQueues, how: str
) -> None:
    queue = queues.queue(QUEUE)
    for number in range(2):
        await queue.put(str(number), message_id=f"job-{number}:0")
    first, second = await receive(queue, 2, hide=60)
    if how == "detach":
        bus.detach_links()
    else:
        bus.drop_connections(abort=how == "abort")
    renewed = await queue.renew(first, hide=60)
    await queue.complete(renewed)
    await queue.dead_letter(second, reason="r")
    await queue.put("2", message_id="job-2:0")
    (third,) = await receive(queue)
    assert third.body == "2"
    await queue.complete(third)
    assert bus.counts(QUEUE) == {"active": 0, "scheduled": 0, "deferred": 0, "locked": 0, "dead": 1}


async def test_a_broker_that_is_away_is_unavailable_and_is_found_again(own_bus: StandIn) -> None:
    bus = own_bus
    async with opened(bus, QUICK) as queues:
        queue = queues.queue(QUEUE)
        await queue.put("x", message_id="job:0")
        bus.stop()
        with pytest.raises(StoreUnavailableError):
            await queue.put("y", message_id="job:1")
        with pytest.raises(StoreUnavailableError):
            await queue.receive(1, hide=5, wait=5)
        bus.start()
        (message,) = await persistently(lambda: receive(queue))
        assert message.body == "x"


async def test_a_hung_broker_is_not_an_empty_queue(own_bus: StandIn) -> None:
    bus = own_bus
    async with opened(bus, QUICK) as queues:
        queue = queues.queue(QUEUE)
        await queue.put("x", message_id="job:0")
        (message,) = await queue.receive(1, hide=60)
        bus.hang()
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await queue.receive(1, hide=60, wait=3)  # several looks, none of which is a proof
        answers = await asyncio.gather(
            queue.complete(message), queue.put("y", message_id="job:1"), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
        assert time.monotonic() - began < 20
        assert queues.last_proof is not None
        assert queues.last_proof > 1
        bus.resume()
        await persistently(lambda: queue.put("z", message_id="job:2"))
        assert queues.last_proof < 1


async def test_an_empty_receive_proves_nothing_until_the_broker_was_asked(bus: StandIn) -> None:
    async with opened(bus, Bounds(silence=0.2)) as queues:
        assert queues.last_proof is None
        queue = queues.queue(QUEUE)
        assert not await queue.receive(1, hide=5, wait=1)
        assert requests(bus, "peek-message") == 1
        assert queues.last_proof is not None


async def test_a_throttled_namespace_asks_for_patience(bus: StandIn, queues: ServiceBusQueues) -> None:
    queue = queues.queue(QUEUE)
    await queue.put("x", message_id="job:0")
    (message,) = await queue.receive(1, hide=30)
    bus.be_busy()
    for refused in (queue.put("y", message_id="job:1"), queue.renew(message, hide=30), queue.peek(1)):
        with pytest.raises(StoreThrottledError) as caught:
            await refused
        assert caught.value.retry_after == 10
    bus.be_busy(busy=False)
    await queue.put("y", message_id="job:1")


async def test_a_message_stays_ours_when_its_successor_could_not_be_sent(
    bus: StandIn, queues: ServiceBusQueues
) -> None:
    queue = queues.queue(QUEUE)
    await queue.put("x", message_id="job:0")
    (message,) = await queue.receive(1, hide=30)
    bus.be_busy()
    with pytest.raises(StoreThrottledError):
        await queue.release(message, delay=60, body="later")
    bus.be_busy(busy=False)
    assert bus.counts(QUEUE)["scheduled"] == 0
    renewed = await queue.renew(message, hide=30)
    await queue.release(renewed, delay=1.5, body="later")
    assert bus.counts(QUEUE) == {"active": 0, "scheduled": 1, "deferred": 0, "locked": 0, "dead": 0}
    (later,) = await receive(queue)
    assert (later.id, later.body, later.dequeue_count) == ("job:1", "later", 1)


async def test_duplicate_detection_drops_only_true_duplicates(queues: ServiceBusQueues) -> None:
    queue = queues.queue("unique")
    for _ in range(2):  # a put whose answer was lost, and is put again
        await queue.put("first", message_id="job:0")
    (message,) = await receive(queue)
    assert not await queue.receive(1, hide=5)
    for wake in range(1, 4):
        await queue.release(message, body=f"wake {wake}")
        (message,) = await receive(queue)
        assert (message.id, message.body) == (f"job:{wake}", f"wake {wake}")
    await queue.complete(message)


@pytest.mark.parametrize("managed", [True, False])
async def test_a_missing_queue_is_made_where_we_may_and_named_where_we_may_not(own_bus: StandIn, managed: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    bus = own_bus
    reach = Reach(authorities=str(certificate().certificate), administration=bus.administer(certificate()))
    assert bus.administration is not None
    bus.administration.may_manage = managed
    queues = await ServiceBusQueues.open(bus.connection_string, reach=reach)
    try:
        queue = queues.queue("unheard-of")
        if not managed:
            with pytest.raises(NotFoundError, match=r"unheard-of.*localhost.*right to manage"):
                await queue.put("x", message_id="m")
            assert (await queue.counts()).visible is None
            assert await queues.queues() == ["unheard-of"]
            with pytest.raises(StoreForbiddenError):
                await queues.facts(QUEUE)
            return
        await queue.put("x", message_id="m")
        assert (await queue.counts()).visible == 1
        assert await queues.queues() == sorted(["unheard-of", QUEUE, "unique", "short"])
        made = await queues.facts("unheard-of")
        assert made is not None
        assert (made.lock, made.deliveries, made.duplicate_window, made.sessions) == (60, 1000, None, False)
        assert (await queues.facts("unique") or made).duplicate_window == 60
        with pytest.raises(NotFoundError):
            await queues.facts("nobody-has-it")
    finally:
        await queues.close()


async def test_a_network_that_lets_only_amqp_through_is_enough(own_bus: StandIn) -> None:
    told: list[str] = []
    forget = subscribe(lambda event, _: told.append(event))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        reach = Reach(administration=f"127.0.0.1:{nobody.getsockname()[1]}")
        queues = await ServiceBusQueues.open(own_bus.connection_string, reach=reach)
        try:
            queue = queues.queue(QUEUE)
            await queue.put("x", message_id="m")
            assert (await queue.counts()).visible is None
            assert await queues.queues() == [QUEUE]
            assert (await queue.counts()).visible is None
        finally:
            await queues.close()
            forget()
    assert told.count("queue.unmanaged") == 1, "it is left alone for a while"


async def test_depths_are_counted_where_we_may_manage() -> None:
    expected = QueueCounts(visible=2, hidden=2, dead=1)
    async with service_bus_queues() as queues:
        queue = queues.queue(unused("queue"))
        assert queue.capabilities.knows_depth
        assert (await queue.counts()).visible == 0
        for number in range(4):
            await queue.put("x", message_id=str(number))
        await queue.put("x", message_id="late", delay=600)
        dying, _ = await receive(queue, 2)
        await queue.dead_letter(dying, reason="r")
        for _ in range(60):  # Azure's counts come late
            if await queue.counts() == expected:
                break
            await asyncio.sleep(1)
        assert await queue.counts() == expected


async def test_a_missing_queue_is_named_where_there_is_nobody_to_make_it(bus: StandIn) -> None:
    async with opened(bus) as queues:
        with pytest.raises(NotFoundError, match="'unheard-of' does not exist"):
            await queues.queue("unheard-of").receive(1, hide=5)
        assert await queues.facts(QUEUE) is None
        facts: QueueFacts | None = await queues.facts("unheard-of")
        assert facts is None


async def test_who_is_refused_hears_where_and_nothing_secret_is_said(own_bus: StandIn) -> None:
    bus = own_bus
    bus.broker.tokens.broken = True
    async with opened(bus) as queues:
        with pytest.raises(StoreForbiddenError) as caught:
            await queues.queue(QUEUE).put("x", message_id="m")
        assert QUEUE in caught.value.store
        said: BaseException | None = caught.value
        while said is not None:
            assert bus.key not in f"{said!r} {said}"
            said = said.__cause__ or said.__context__
        assert bus.key not in repr(queues)
        assert bus.key not in repr(queues.queue(QUEUE))
        bus.broker.tokens.broken = False
        await queues.queue(QUEUE).put("x", message_id="m")


async def test_a_dead_letter_is_removed_from_behind_others_which_stay(bus: StandIn, queues: ServiceBusQueues) -> None:
    queue = queues.queue(QUEUE)
    await asyncio.gather(*(queue.put(str(number), message_id=f"job-{number}:0") for number in range(30)))
    for message in await receive(queue, 30):
        await queue.dead_letter(message, reason="r" * 5000, description="d" * 5000)
    assert await queue.remove_dead("job-20:0")
    assert not await queue.remove_dead("job-20:0")
    letters = await queue.peek(40, dead=True)
    assert bus.counts(f"{QUEUE}/$DeadLetterQueue")["locked"] == 0
    assert [letter.body for letter in letters] == [str(number) for number in range(30) if number != 20]
    assert (letters[0].reason, letters[0].description) == ("r" * 4096, "d" * 4096)


async def test_an_id_that_is_longer_than_the_broker_takes(bus: StandIn, queues: ServiceBusQueues) -> None:
    queue = queues.queue(QUEUE)
    long = "job:" + "v" * 200
    await queue.put("x", message_id=long)
    (message,) = await receive(queue)
    assert message.id == long
    await queue.release(message, body="y")
    (message,) = await receive(queue)
    assert message.id == f"{long}:1"
    await queue.dead_letter(message, reason="r")
    assert [letter.id for letter in (await queue.dead(5, prefix=long)).messages] == [f"{long}:1"]
    assert await queue.remove_dead(f"{long}:1")
    assert bus.counts(QUEUE)["dead"] == 0


async def test_a_receiver_that_leaves_takes_nothing_along(bus: StandIn) -> None:
    async with opened(bus) as leaving, opened(bus) as other:
        gone = asyncio.create_task(leaving.queue(QUEUE).receive(5, hide=60, wait=20))
        await asyncio.sleep(1)  # its link is open, and it waits
        await other.queue(QUEUE).put("x", message_id="m")
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        (message,) = await receive(other.queue(QUEUE), within=15)
        await other.queue(QUEUE).complete(message)


async def test_a_caller_that_leaves_while_the_link_opens_does_not_stop_the_others(bus: StandIn) -> None:
    async with opened(bus) as fresh:
        queue = fresh.queue(QUEUE)
        first = asyncio.create_task(queue.peek(1))
        second = asyncio.create_task(queue.peek(1))
        await asyncio.sleep(0.2)
        first.cancel()
        assert await second == []
    assert bus.broker.attached.count("$cbs") == 2  # of one connection, for both directions


async def test_closing_is_final_and_may_be_done_twice(bus: StandIn) -> None:
    queues = await ServiceBusQueues.open(bus.connection_string)
    queue = queues.queue(QUEUE)
    await queue.put("x", message_id="m")
    waiting = asyncio.create_task(queue.receive(1, hide=5, wait=30))
    (message,) = await waiting
    waiting = asyncio.create_task(queue.receive(1, hide=5, wait=30))
    await asyncio.sleep(0.1)
    await queues.close()
    await queues.close()
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailableError):
            await waiting
    with pytest.raises(StoreError):
        await queue.complete(message)
    assert isinstance(message, QueueMessage)
