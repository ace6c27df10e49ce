"""The queue contract on Service Bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from azure.servicebus import ServiceBusReceivedMessage, ServiceBusSubQueue
from azure.servicebus.aio import ServiceBusClient, ServiceBusReceiver, ServiceBusSender

from rolehost.errors import LimitExceededError, ReceiptMismatchError
from rolehost.stores import names
from rolehost.stores.queues import (
    ORDERED,
    DeadPage,
    QueueCapabilities,
    QueueCounts,
    QueueLimits,
    QueueMessage,
    no_session,
)
from rolehost.stores.service_bus.administration import Administration
from rolehost.stores.service_bus.dead_letters import DeadLetters, browse
from rolehost.stores.service_bus.holding import Holdings
from rolehost.stores.service_bus.intake import MOST, Intake
from rolehost.stores.service_bus.link import Link, Pulse
from rolehost.stores.service_bus.messages import incoming, is_visible, next_wake, outgoing
from rolehost.stores.service_bus.namespace import Namespace
from rolehost.stores.service_bus.outgoing import Outgoing

LIMITS: Final = QueueLimits(
    # 256 KB on the standard tier, of which headers and properties may take 64.
    largest_message=192 * 1024,
    longest_hiding=7 * 24 * 3600.0,
    receives_per_call=MOST,
)
_LONGEST_TEXT: Final = 4096  # of a dead letter's reason and description
_GRACE: Final = 2.0
_AT_ONCE: Final = 1.0
_MOST_LOOKED_AT: Final = 1000
"""Messages that a look at the queue goes through, when most of them are scheduled or held."""


class ServiceBusQueue:
    """A queue and its native dead-letter queue.

    Args:
        name: its name.
        namespace: where it is.
        client: the SDK's client.
        administration: makes it if it is missing, and counts.
        pulse: told of every answer of the broker.
    """

    def __init__(
        self, name: str, namespace: Namespace, client: ServiceBusClient, administration: Administration, pulse: Pulse
    ) -> None:
        self._name = names.queue_name(name)
        self._administration = administration
        store = f"queue {name!r} of {namespace.host}"
        options = namespace.link_options()

        async def make_queue() -> None:
            await administration.make_queue(name, sessions=name.endswith(ORDERED))

        def receiver(**more: Any) -> Callable[[], ServiceBusReceiver]:
            return lambda: client.get_queue_receiver(name, **options, **more)

        self._sender: Link[ServiceBusSender] = Link(
            store, lambda: client.get_queue_sender(name, **options), make_queue, pulse, namespace.bounds
        )
        self._receiver: Link[ServiceBusReceiver] = Link(store, receiver(), make_queue, pulse, namespace.bounds)
        self._dead_receiver: Link[ServiceBusReceiver] = Link(
            store, receiver(sub_queue=ServiceBusSubQueue.DEAD_LETTER), make_queue, pulse, namespace.bounds
        )
        self._outgoing = Outgoing(self._sender)
        self._holdings = Holdings(self._renew_lock, self._abandon)
        self._intake = Intake(self._receiver, pulse, self.prove, self._abandon)
        self._dead = DeadLetters(self._dead_receiver)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._name

    @property
    def limits(self) -> QueueLimits:
        """What this engine can take."""
        return LIMITS

    @property
    def capabilities(self) -> QueueCapabilities:
        """What this engine can do."""
        return QueueCapabilities(
            waits=True,
            rewrites_body=False,
            native_dead_letters=True,
            knows_depth=self._administration.present,
            answers_at_once=False,
            sessions=True,
        )

    async def put(self, body: str, *, message_id: str, delay: float = 0.0, session: str = "") -> None:
        """See `Queue.put`."""
        no_session(session)
        size = self._checked(body, delay)
        await self._outgoing.send(outgoing(body, names.text(message_id, "message_id"), delay), size)

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        """See `Queue.receive`."""
        if not 1 <= count <= LIMITS.receives_per_call:
            raise LimitExceededError(f"a receive takes 1 to {LIMITS.receives_per_call} messages")
        _hiding(hide)
        messages = await self._intake.take(count, wait)
        if not messages and wait < _AT_ONCE and await self._seems_to_hold_some():
            messages = await self._intake.take(count, _GRACE)
        return [incoming(message, self._holdings.add(message, hide)) for message in messages]

    async def _seems_to_hold_some(self) -> bool:
        """Whether there is a message that may only be on its way to us, or may be locked by another process."""
        async for message in browse(self._receiver, page=MOST, most=_MOST_LOOKED_AT):
            if self._is_visible(message):
                return True
        return False

    def _is_visible(self, message: ServiceBusReceivedMessage) -> bool:
        return is_visible(message) and message.sequence_number not in self._holdings.sequences

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        """See `Queue.renew`; the body stays as it is."""
        del body
        _hiding(hide)
        held = self._holdings.find(message)
        try:
            await self._renew_lock(held.message)
        except ReceiptMismatchError:
            self._holdings.drop(message)
            raise
        return incoming(held.message, self._holdings.extend(message, hide))

    async def complete(self, message: QueueMessage) -> None:
        """See `Queue.complete`."""
        await self._settle(message, "complete", lambda receiver, ours: receiver.complete_message(ours))

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        """See `Queue.release`.

        With a delay or a body it is another message, which is known to be there before this one goes.
        """
        _hiding(delay)
        said = message.body if body is None else body
        size = _size(said)
        if body is None and not delay:
            await self._settle(message, "abandon", lambda receiver, ours: receiver.abandon_message(ours))
            return
        self._holdings.find(message)
        await self._outgoing.send(outgoing(said, next_wake(message.id), delay), size)
        await self.complete(message)

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        """See `Queue.dead_letter`."""
        cause, story = self._explained(reason, description)
        await self._settle(
            message,
            "dead-letter",
            lambda receiver, ours: receiver.dead_letter_message(ours, reason=cause, error_description=story),
        )

    @staticmethod
    def _explained(reason: str, description: str) -> tuple[str, str]:
        """As much of both as a dead letter takes."""
        return names.text(reason, "reason")[:_LONGEST_TEXT], names.text(description, "description")[:_LONGEST_TEXT]

    @staticmethod
    def _checked(body: str, hiding: float) -> int:
        """The size of a body; it and the time have to be within the limits."""
        _hiding(hiding)
        return _size(body)

    async def _settle(
        self,
        message: QueueMessage,
        what: str,
        verb: Callable[[ServiceBusReceiver, ServiceBusReceivedMessage], Coroutine[Any, Any, None]],
    ) -> None:
        held = self._holdings.find(message)
        held.busy = True
        try:
            await self._receiver.use(what, lambda receiver: verb(receiver, held.message))
        except ReceiptMismatchError:
            self._holdings.drop(message)
            raise
        finally:
            held.busy = False
        self._holdings.drop(message)

    async def _renew_lock(self, message: ServiceBusReceivedMessage) -> None:
        await self._receiver.use("renew", lambda receiver: receiver.renew_message_lock(message))

    async def _abandon(self, message: ServiceBusReceivedMessage) -> None:
        await self._receiver.use("abandon", lambda receiver: receiver.abandon_message(message))

    async def peek(self, count: int, *, dead: bool = False) -> Sequence[QueueMessage]:
        """See `Queue.peek`; what other processes hold is shown too, for Service Bus doesn't tell it apart."""
        if dead:
            return (await self._dead.page(count, None, "")).messages
        found: list[QueueMessage] = []
        async for message in browse(self._receiver, page=max(count, MOST), most=count + _MOST_LOOKED_AT):
            if self._is_visible(message):
                found.append(incoming(message))
            if len(found) == count:
                break
        return found

    async def dead(self, limit: int, *, cursor: str | None = None, prefix: str = "") -> DeadPage:
        """See `Queue.dead`."""
        return await self._dead.page(limit, cursor, prefix)

    async def remove_dead(self, message_id: str) -> bool:
        """See `Queue.remove_dead`."""
        return await self._dead.remove(message_id)

    async def counts(self) -> QueueCounts:
        """See `Queue.counts`."""
        return await self._administration.counts(self._name, self._held)

    @property
    def _held(self) -> int:
        """How many messages we have."""
        return len(self._holdings)

    async def prove(self) -> None:
        """One round trip that proves that the broker is there, and that we may receive.

        Raises:
            StoreError: it isn't, or we may not.
        """
        async for _ in browse(self._receiver, page=1):
            return

    async def close(self) -> None:
        """Give back what nobody took, and close the links."""
        await self._intake.close()
        await self._holdings.close()
        await self._outgoing.close()
        await asyncio.gather(self._sender.close(), self._receiver.close(), self._dead_receiver.close())


def _size(body: str) -> int:
    size = len(names.text(body, "body").encode())
    if size > LIMITS.largest_message:
        raise LimitExceededError(f"the message has {size} bytes; the most is {LIMITS.largest_message}")
    return size


def _hiding(seconds: float) -> None:
    if not 0 <= seconds <= LIMITS.longest_hiding:
        raise LimitExceededError(f"a message is hidden for 0 to {LIMITS.longest_hiding:.0f} seconds, not {seconds}")
