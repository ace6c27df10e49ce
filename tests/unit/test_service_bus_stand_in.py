"""Microsoft's Python client sees in the stand-in what it would see in Service Bus; or in that, where one is named.

The client here is the synchronous one: the engine under test uses the other.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.servicebus import (
    NEXT_AVAILABLE_SESSION,
    ServiceBusClient,
    ServiceBusMessage,
    ServiceBusReceivedMessage,
    ServiceBusReceiveMode,
    ServiceBusReceiver,
    ServiceBusSender,
    ServiceBusSubQueue,
)
from azure.servicebus.exceptions import (
    MessageLockLostError,
    MessageSizeExceededError,
    ServiceBusAuthenticationError,
    ServiceBusAuthorizationError,
    ServiceBusError,
)

from support.service_bus import QueueOptions
from support.service_bus.under_test import BusUnderTest, bus_under_test


@pytest.fixture(scope="module")
def bus() -> Iterator[BusUnderTest]:
    with bus_under_test() as namespace:
        yield namespace


class Links:
    """The client's links, closed all at once at the end: closing one takes a second."""

    def __init__(self, client: ServiceBusClient) -> None:
        self._client = client
        self._senders: dict[str, ServiceBusSender] = {}
        self._receivers: list[ServiceBusReceiver] = []

    def sender(self, queue: str) -> ServiceBusSender:
        if queue not in self._senders:
            self._senders[queue] = self._client.get_queue_sender(queue)
        return self._senders[queue]

    def receiver(self, queue: str, **options: Any) -> ServiceBusReceiver:
        self._receivers.append(self._client.get_queue_receiver(queue, **options).__enter__())
        return self._receivers[-1]

    def dead(self, queue: str) -> ServiceBusReceiver:
        return self.receiver(queue, sub_queue=ServiceBusSubQueue.DEAD_LETTER)

    def put(self, queue: str, *messages: ServiceBusMessage) -> None:
        for message in messages:
            self.sender(queue).send_messages(message)

    def close(self) -> None:
        links = [*self._senders.values(), *self._receivers]
        with ThreadPoolExecutor(len(links)) as pool:
            list(pool.map(lambda link: link.close(), links))


@pytest.fixture(scope="module")
def links(bus: BusUnderTest) -> Iterator[Links]:
    with ServiceBusClient.from_connection_string(bus.connection, retry_total=1) as client:
        opened = Links(client)
        yield opened
        opened.close()


def take(receiver: ServiceBusReceiver, count: int, within: float = 15.0) -> list[ServiceBusReceivedMessage]:
    """So many messages: a receive may answer with fewer."""
    taken: list[ServiceBusReceivedMessage] = []
    end = time.monotonic() + within
    while len(taken) < count:
        assert time.monotonic() < end, f"{len(taken)} of {count} messages came"
        taken += receiver.receive_messages(max_message_count=count - len(taken), max_wait_time=5)
    return taken


def test_a_message_comes_with_all_that_it_was_sent_with(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions())
    properties: dict[str | bytes, Any] = {"number": 1, "text": "grün", "yes": True, "half": 0.5}
    sent = ServiceBusMessage(
        "körper", message_id="m-1", subject="s", correlation_id="c", content_type="t", application_properties=properties
    )
    links.put(queue, sent)
    receiver = links.receiver(queue)
    (message,) = take(receiver, 1)
    assert (str(message), message.message_id, message.subject) == ("körper", "m-1", "s")
    assert (message.correlation_id, message.content_type, message.delivery_count) == ("c", "t", 0)
    assert message.application_properties == {
        b"number": 1,
        b"text": "grün".encode(),
        b"yes": True,
        b"half": 0.5,
    }
    assert isinstance(message.lock_token, uuid.UUID)
    assert message.locked_until_utc is not None
    assert message.locked_until_utc > datetime.now(UTC)
    receiver.complete_message(message)
    assert not receiver.peek_messages(1, sequence_number=1)


def test_batches_and_sizes(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions())
    large = bytes(range(256)) * 750  # several frames
    sender = links.sender(queue)
    batch = sender.create_message_batch()
    for number in range(3):
        batch.add_message(ServiceBusMessage(f"batch {number}", message_id=str(number)))
    sender.send_messages(batch)
    sender.send_messages(ServiceBusMessage(large, message_id="large"))
    with pytest.raises(MessageSizeExceededError):
        sender.send_messages(ServiceBusMessage(b"x" * 300_000))
    receiver = links.receiver(queue)
    messages = take(receiver, 4)
    assert [message.message_id for message in messages] == ["0", "1", "2", "large"]
    assert b"".join(messages[3].body) == large
    for message in messages:
        receiver.complete_message(message)


def test_too_many_deliveries_make_a_dead_letter(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions(max_delivery_count=2))
    links.put(queue, ServiceBusMessage("poison"))
    receiver = links.receiver(queue)
    for deliveries in range(2):
        (message,) = take(receiver, 1)
        assert message.delivery_count == deliveries
        receiver.abandon_message(message)
    receiver = links.dead(queue)
    (letter,) = take(receiver, 1)
    assert (str(letter), letter.dead_letter_reason) == ("poison", "MaxDeliveryCountExceeded")
    receiver.complete_message(letter)


def test_a_dead_letter_says_why(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions())
    links.put(queue, ServiceBusMessage("bad", application_properties={"kept": "yes"}))
    receiver = links.receiver(queue)
    (message,) = take(receiver, 1)
    receiver.dead_letter_message(message, reason="unreadable", error_description="not JSON: é")
    receiver = links.dead(queue)
    (letter,) = take(receiver, 1)
    assert (letter.dead_letter_reason, letter.dead_letter_error_description) == ("unreadable", "not JSON: é")
    assert letter.application_properties is not None
    assert letter.application_properties[b"kept"] == b"yes"
    receiver.complete_message(letter)


def test_a_lock_ends_and_the_broker_refuses_the_old_one(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions(lock_seconds=bus.shortest_lock))
    links.put(queue, ServiceBusMessage("x"))
    receiver = links.receiver(queue)
    (late,) = take(receiver, 1)
    (current,) = take(receiver, 1)
    assert (current.delivery_count, current.lock_token != late.lock_token) == (1, True)
    late._expiry = datetime.now(UTC) + timedelta(hours=1)  # else the client refuses by itself
    with pytest.raises(MessageLockLostError):
        receiver.complete_message(late)
    receiver.renew_message_lock(current)
    receiver.complete_message(current)


def test_a_renewed_lock_lasts_longer(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions(lock_seconds=bus.shortest_lock))
    links.put(queue, ServiceBusMessage("x"))
    receiver = links.receiver(queue)
    (message,) = take(receiver, 1)
    end = time.monotonic() + 1.5 * bus.shortest_lock
    while time.monotonic() < end:
        assert receiver.renew_message_lock(message) > datetime.now(UTC)
        time.sleep(bus.shortest_lock / 4)  # what is to be shown is that time passes
    receiver.complete_message(message)


def test_what_is_scheduled_comes_when_it_is_due_unless_cancelled(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions())
    due = datetime.now(UTC) + timedelta(seconds=2)
    sender = links.sender(queue)
    sender.send_messages(ServiceBusMessage("by its own date", scheduled_enqueue_time_utc=due))
    kept, never = sender.schedule_messages([ServiceBusMessage("by request"), ServiceBusMessage("never")], due)
    sender.cancel_scheduled_messages(never)
    assert kept != never
    with pytest.raises(ServiceBusError):
        sender.cancel_scheduled_messages(never)
    receiver = links.receiver(queue)
    messages = take(receiver, 2)
    assert sorted(str(message) for message in messages) == ["by its own date", "by request"]
    assert datetime.now(UTC) >= due
    for message in messages:
        receiver.complete_message(message)


def test_peeking_goes_by_sequence_number_and_deferring_keeps_it(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions())
    links.put(queue, *(ServiceBusMessage(str(number)) for number in range(3)))
    receiver = links.receiver(queue)
    first, *_ = peeked = receiver.peek_messages(3)
    assert [str(message) for message in peeked] == ["0", "1", "2"]
    assert first.sequence_number is not None
    assert [str(message) for message in receiver.peek_messages(9, sequence_number=first.sequence_number + 1)] == [
        "1",
        "2",
    ]
    (message,) = take(receiver, 1)
    receiver.defer_message(message)
    assert [str(message) for message in take(receiver, 2)] == ["1", "2"]
    (deferred,) = receiver.receive_deferred_messages(first.sequence_number)
    assert str(deferred) == "0"
    receiver.complete_message(deferred)


def test_what_expires_becomes_a_dead_letter_where_the_queue_says_so(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions(dead_letter_on_expiry=True))
    links.put(queue, ServiceBusMessage("old", time_to_live=timedelta(seconds=1)))
    receiver = links.dead(queue)
    # Azure looks at what has expired when somebody receives.
    other = links.receiver(queue)
    time.sleep(1.2)
    assert not other.receive_messages(max_wait_time=0.2)
    (letter,) = take(receiver, 1, within=60)
    assert letter.dead_letter_reason == "TTLExpiredException"
    receiver.complete_message(letter)


def test_sessions_are_received_one_by_one_with_their_state(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions(requires_session=True))
    links.put(queue, *(ServiceBusMessage(str(number), session_id="ab"[number % 2]) for number in range(6)))
    with pytest.raises(ServiceBusError):
        links.put(queue, ServiceBusMessage("of no session"))
    receiver = links.receiver(queue, session_id="b")
    receiver.session.set_state("half done")
    assert receiver.session.get_state() == b"half done"
    assert receiver.session.renew_lock() > datetime.now(UTC)
    messages = take(receiver, 3)
    assert [str(message) for message in messages] == ["1", "3", "5"]
    for message in messages:
        receiver.complete_message(message)
    other = links.receiver(queue, session_id=NEXT_AVAILABLE_SESSION, max_wait_time=5)
    assert other.session.session_id == "a"


def test_a_duplicate_is_dropped_within_the_window_also_a_scheduled_one(bus: BusUnderTest, links: Links) -> None:
    queue = bus.make(QueueOptions(duplicate_window=60))
    later = datetime.now(UTC) + timedelta(hours=1)
    sender = links.sender(queue)
    for message_id in ("1", "1", "2"):
        sender.send_messages(ServiceBusMessage(message_id, message_id=message_id))
    sender.send_messages(ServiceBusMessage("2", message_id="2", scheduled_enqueue_time_utc=later))
    receiver = links.receiver(queue, receive_mode=ServiceBusReceiveMode.RECEIVE_AND_DELETE)
    assert [str(message) for message in take(receiver, 2)] == ["1", "2"]
    assert not receiver.peek_messages(5, sequence_number=1)


def test_who_has_the_wrong_key_may_nothing(bus: BusUnderTest) -> None:
    queue = bus.make(QueueOptions())
    name, _, rest = bus.connection.partition("SharedAccessKey=")
    stranger = f"{name}SharedAccessKey=c3RyYW5nZXI=;{rest.partition(';')[2]}".rstrip(";")
    with (
        ServiceBusClient.from_connection_string(stranger, retry_total=0) as other,
        pytest.raises((ServiceBusAuthenticationError, ServiceBusAuthorizationError)),
    ):
        other.get_queue_sender(queue).send_messages(ServiceBusMessage("x"))
