"""Queues with sessions: what the engine does, and what the SDK's own session receiver sees of the stand-in."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from azure.servicebus import NEXT_AVAILABLE_SESSION, ServiceBusClient, ServiceBusMessage, ServiceBusReceiver
from azure.servicebus.exceptions import OperationTimeoutError, ServiceBusError, SessionLockLostError

from rolehost.errors import InvalidParameterError, ReceiptMismatchError
from rolehost.stores import Queue, QueueMessage
from rolehost.stores.service_bus import ServiceBusQueues
from support.service_bus import QueueOptions
from support.service_bus.stand_in import StandIn
from support.service_bus.under_test import BusUnderTest, bus_under_test

NAME = "work-jobs-ordered"
OPTIONS = QueueOptions(requires_session=True, lock_seconds=2, max_delivery_count=1000)


@pytest.fixture
def bus() -> Iterator[StandIn]:
    with StandIn({NAME: OPTIONS}) as bus:
        yield bus


@pytest.fixture
async def queue(bus: StandIn) -> AsyncIterator[Queue]:
    async with _opened(bus) as queues:
        yield queues.queue(NAME)


class _opened:  # noqa: N801 - a block
    def __init__(self, bus: StandIn) -> None:
        self._bus = bus

    async def __aenter__(self) -> ServiceBusQueues:
        self._queues = await ServiceBusQueues.open(self._bus.connection_string)
        return self._queues

    async def __aexit__(self, *_: object) -> None:
        await self._queues.close()


async def put(queue: Queue, *words: str) -> None:
    """Each in the session that its first letter names."""
    for word in words:
        await queue.put(word, message_id=word, session=word[0])


async def receive(queue: Queue, count: int = 1, within: float = 15.0) -> Sequence[QueueMessage]:
    return await queue.receive(count, hide=30, wait=within)


async def test_messages_of_a_session_come_one_at_a_time_and_in_order(queue: Queue) -> None:
    assert queue.capabilities.sessions
    await put(queue, "a1", "a2", "b1", "a3")
    held = [*await receive(queue, 9)]
    while len(held) < 2:
        held += await receive(queue, 9)
    first, other = sorted(held, key=lambda message: message.body)
    assert (first.body, other.body) == ("a1", "b1")
    await queue.complete(other)
    assert not await receive(queue, within=1.0)  # one of the session is under way, and there is no other session
    await queue.complete(first)
    for body in ("a2", "a3"):
        (message,) = await receive(queue, 9)
        assert message.body == body
        await queue.complete(message)


async def test_a_message_that_is_given_back_for_a_while_holds_up_its_session_and_no_other(queue: Queue) -> None:
    await put(queue, "a1", "a2")
    (first,) = await receive(queue)
    began = time.monotonic()
    await queue.release(first, delay=3.0, body="a1, again")
    await put(queue, "b1")
    (other,) = await receive(queue)
    assert other.body == "b1"
    await queue.complete(other)
    with pytest.raises(ReceiptMismatchError):
        await queue.complete(first)
    (again,) = await receive(queue)  # longer than the lock: it was renewed
    assert time.monotonic() - began >= 2.9
    assert (again.id, again.body) == ("a1", "a1, again")
    await queue.complete(again)
    (second,) = await receive(queue)
    assert second.body == "a2"
    await queue.complete(second)


async def test_a_message_that_is_given_back_at_once_is_first_again_for_anybody(bus: StandIn, queue: Queue) -> None:
    await put(queue, "a1", "a2")
    (first,) = await receive(queue)
    await queue.release(first)
    async with _opened(bus) as others:
        other = others.queue(NAME)
        (again,) = await receive(other)
        assert again.body == "a1"
        assert again.dequeue_count >= 2
        await other.complete(again)
        (second,) = await receive(other)
        assert second.body == "a2"
        await other.dead_letter(second, reason="app", description="why")
        (letter,) = (await other.dead(9)).messages
        assert (letter.id, letter.reason, letter.description) == ("a2", "app", "why")
        assert await other.remove_dead("a2")


async def test_a_held_message_keeps_its_session_beyond_the_lock_until_its_hiding_ends(
    bus: StandIn, queue: Queue
) -> None:
    await put(queue, "a1", "a2")
    (first,) = await queue.receive(1, hide=3.5, wait=15)
    async with _opened(bus) as others:
        other = others.queue(NAME)
        assert not await receive(other, within=2.5)  # longer than the lock
        renewed = await queue.renew(first, hide=1)
        with pytest.raises(ReceiptMismatchError):
            await queue.renew(first, hide=1)
        (again,) = await receive(other)
        assert again.body == "a1"
        with pytest.raises(ReceiptMismatchError):
            await queue.complete(renewed)
        await other.complete(again)


async def test_when_a_process_vanishes_another_goes_on_with_the_same_message(bus: StandIn, queue: Queue) -> None:
    await put(queue, "a1", "a2")
    (first,) = await receive(queue)
    bus.call(lambda: bus.broker.drop_connections(abort=True))
    async with _opened(bus) as others:
        (again,) = await receive(others.queue(NAME))
        assert again.body == "a1"
        with pytest.raises(Exception, match=r"ours|link|connection|unavailable|lost|answer"):
            await queue.complete(first)


async def test_a_message_names_its_session(queue: Queue, bus: StandIn) -> None:
    with pytest.raises(InvalidParameterError, match="a session is named by"):
        await queue.put("x", message_id="x")
    async with _opened(bus) as others:
        with pytest.raises(InvalidParameterError, match="this queue has no sessions"):
            await others.queue("work-jobs").put("x", message_id="x", session="a")


async def test_nobody_asks_a_queue_without_work_again_and_again(bus: StandIn, queue: Queue) -> None:
    assert not await receive(queue, within=2.0)
    assert bus.broker.attached.count(NAME) == 1
    await put(queue, "a1")
    (message,) = await receive(queue)
    assert bus.broker.attached.count(NAME) <= 3  # the sender's link, and the one that waits for the next session
    await queue.complete(message)


# What Azure's own SDK sees of the stand-in, or of a real namespace where one is named.


@pytest.fixture
def real() -> Iterator[BusUnderTest]:
    with bus_under_test() as bus:
        yield bus


def _receiver(client: ServiceBusClient, queue: str, seconds: float) -> ServiceBusReceiver:
    return client.get_queue_receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=seconds)


def test_the_sdk_waits_for_the_next_session_holds_it_and_hears_when_it_is_lost(real: BusUnderTest) -> None:
    lock = max(real.shortest_lock, 3.0)
    queue = real.make(QueueOptions(requires_session=True, lock_seconds=lock))
    with ServiceBusClient.from_connection_string(real.connection, retry_total=0) as client:
        began = time.monotonic()
        with pytest.raises(OperationTimeoutError), _receiver(client, queue, 1):
            pass
        assert time.monotonic() - began >= 0.9
        with client.get_queue_sender(queue) as sender:
            sender.send_messages([ServiceBusMessage(str(number), session_id="a") for number in range(3)])
        with _receiver(client, queue, 10) as receiver:
            assert receiver.session.session_id == "a"
            with pytest.raises(ServiceBusError), _receiver(client, queue, 1):
                pass  # it has its receiver
            (message,) = receiver.receive_messages(max_message_count=1, max_wait_time=5)
            receiver.abandon_message(message)
            (message,) = receiver.receive_messages(max_message_count=1, max_wait_time=5)
            assert str(message) == "0"  # its place is its own
            time.sleep(lock + 1.0)
            with pytest.raises(SessionLockLostError):
                receiver.session.renew_lock()
        with _receiver(client, queue, 10) as receiver:
            (message,) = receiver.receive_messages(max_message_count=1, max_wait_time=5)
            assert str(message) == "0"


def test_the_sdk_is_refused_a_session_where_there_are_none(real: BusUnderTest) -> None:
    queue = real.make(QueueOptions())
    with (
        ServiceBusClient.from_connection_string(real.connection, retry_total=0) as client,
        pytest.raises(ServiceBusError),
        _receiver(client, queue, 2),
    ):
        pass
