"""Messages: the queue contract on Azure Queue Storage."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.data.tables.aio import TableClient
from azure.storage.queue import QueueMessage as ServiceMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from rolehost.errors import LimitExceededError, ReceiptMismatchError, StoreError
from rolehost.stores import names
from rolehost.stores.azure_storage.envelope import Envelope
from rolehost.stores.azure_storage.failures import code, translated
from rolehost.stores.azure_storage.poison import PoisonQueue, died_now, poison_name
from rolehost.stores.azure_storage.wire import (
    MADE_FOR,
    MOST_PEEKED,
    Bodies,
    depth,
    made_on_first_use,
    peeked,
    sent,
    shown,
)
from rolehost.stores.queues import DeadPage, QueueCapabilities, QueueCounts, QueueLimits, QueueMessage, no_session

LIMITS: Final = QueueLimits(largest_message=64 * 1024, longest_hiding=7 * 24 * 3600.0, receives_per_call=32)
CAPABILITIES: Final = QueueCapabilities(waits=False, rewrites_body=True, native_dead_letters=False, knows_depth=True)
_HELD: Final = 60.0
_RECEIPT: Final = re.compile(r"([0-9a-fA-F-]{36})\.([^.]*)\.(.+)", re.DOTALL)
_NOT_OURS: Final = {
    *("MessageNotFound", "PopReceiptMismatch", "QueueNotFound"),
    *("InvalidQueryParameterValue", "OutOfRangeQueryParameterValue", "InvalidInput"),  # no receipt at all
}


class AzureQueues:
    """The queues of an account.

    Args:
        service: its client.
        traces: the table of the receipts of dead letters.
        bodies: where bodies are that are too long for a message.
    """

    def __init__(self, service: QueueServiceClient, traces: TableClient, bodies: Bodies) -> None:
        self._service = service
        self._traces = traces
        self._bodies = bodies
        self._opened: dict[str, AzureQueue] = {}
        self._regrets: set[asyncio.Task[None]] = set()

    def queue(self, name: str) -> AzureQueue:
        """The queue with this name."""
        if name not in self._opened:
            client = self._service.get_queue_client(names.queue_name(name))
            dead = self._service.get_queue_client(poison_name(name))
            poison = PoisonQueue(name, dead, self._traces, self._bodies)
            self._opened[name] = AzureQueue(client, poison, self._bodies, self._regrets)
        return self._opened[name]

    async def names(self) -> Sequence[str]:
        """The queues that we made or opened: an account may hold others."""
        found = set()
        with translated("the queue service"):
            async for each in self._service.list_queues(include_metadata=True):
                made_for = (each.metadata or {}).get(MADE_FOR)
                if made_for or each.name in self._opened:
                    found.add(str(made_for or each.name))
        return sorted(found)

    async def close(self) -> None:
        """Wait until what was received in vain has been given back."""
        await asyncio.gather(*self._regrets, return_exceptions=True)


class AzureQueue:
    """A queue and its poison queue. Made by `AzureQueues.queue`.

    Args:
        client: the queue.
        poison: its poison queue.
        bodies: where long bodies are.
        regrets: what gives back the messages of receives that were cancelled.
    """

    def __init__(
        self, client: QueueClient, poison: PoisonQueue, bodies: Bodies, regrets: set[asyncio.Task[None]]
    ) -> None:
        self._client = client
        self._poison = poison
        self._bodies = bodies
        self._regrets = regrets
        self._what = f'the queue "{client.queue_name}"'

    @property
    def name(self) -> str:
        """The queue's name."""
        return str(self._client.queue_name)

    @property
    def limits(self) -> QueueLimits:
        """What this engine can take."""
        return LIMITS

    @property
    def capabilities(self) -> QueueCapabilities:
        """What this engine can do."""
        return CAPABILITIES

    async def put(self, body: str, *, message_id: str, delay: float = 0.0, session: str = "") -> None:
        """See `Queue.put`."""
        no_session(session)
        hidden = _seconds(delay)
        letter = Envelope(id=names.text(message_id, "message_id"), body=_checked(body))
        with translated(self._what):
            text, _ = await self._bodies.sealed(letter, self.name)
            await sent(self._client, self.name, text, hidden)

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:  # noqa: ARG002 - it answers at once, as its capabilities say
        """See `Queue.receive`."""
        if not 1 <= count <= LIMITS.receives_per_call:
            raise LimitExceededError(f"a receive takes 1 to {LIMITS.receives_per_call} messages")
        work = asyncio.create_task(self._received(count, max(1, _seconds(hide))))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The request may be under way: what it brings was never delivered.
            regret = asyncio.create_task(self._given_back(work))
            self._regrets.add(regret)
            regret.add_done_callback(self._regrets.discard)
            raise

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        """See `Queue.renew`."""
        service_id, blob, pop = _receipt(message)
        hidden, text, kept = _seconds(hide), None, blob
        with translated(self._what), _ours(message):
            if body is not None:
                text, kept = await self._bodies.sealed(Envelope(id=message.id, body=_checked(body)), self.name)
            told = await self._client.update_message(service_id, pop, text, visibility_timeout=hidden)
        if blob != kept:
            await self._bodies.forget(blob)
        return QueueMessage(
            id=message.id,
            body=message.body if body is None else body,
            dequeue_count=message.dequeue_count,
            receipt=f"{service_id}.{kept}.{told.pop_receipt}",
            reason=message.reason,
            description=message.description,
        )

    async def complete(self, message: QueueMessage) -> None:
        """See `Queue.complete`."""
        service_id, blob, pop = _receipt(message)
        with translated(self._what), _ours(message):
            await self._client.delete_message(service_id, pop)
        await self._bodies.forget(blob)

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        """See `Queue.release`."""
        await self.renew(message, hide=delay, body=body)

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        """See `Queue.dead_letter`: hidden first, which proves that it is ours; then copied, then removed."""
        letter = Envelope(
            id=message.id,
            body=message.body,
            reason=names.text(reason, "reason"),
            description=names.text(description, "description"),
            at=died_now(),
        )
        held = await self.renew(message, hide=_HELD)
        with translated(self._what):
            await self._poison.add(letter)
        await self.complete(held)

    async def peek(self, count: int, *, dead: bool = False) -> Sequence[QueueMessage]:
        """See `Queue.peek`: the service shows the first 32 at most."""
        with translated(self._what):
            if dead:
                return await self._poison.peek(count)
            return [shown(await self._bodies.opened(each)) for each in await peeked(self._client, count)]

    async def dead(self, limit: int, *, cursor: str | None = None, prefix: str = "") -> DeadPage:
        """See `Queue.dead`: of the first 32."""
        names.page_size(limit)
        with translated(self._what):
            return await self._poison.page(limit, cursor, prefix)

    async def remove_dead(self, message_id: str) -> bool:
        """See `Queue.remove_dead`."""
        with translated(self._what):
            return await self._poison.remove(names.text(message_id, "message_id"))

    async def counts(self) -> QueueCounts:
        """See `Queue.counts`.

        The service counts visible and hidden messages together, and shows the first 32 visible ones: fewer are all that
        there are, and with more, how many of the rest are hidden can't be known.
        """
        with translated(self._what):
            every, first, dead = await asyncio.gather(depth(self._client), peeked(self._client), self._poison.count())
        if len(first) < MOST_PEEKED:
            return QueueCounts(visible=len(first), hidden=max(0, every - len(first)), dead=dead)
        return QueueCounts(visible=every, hidden=None, dead=dead)

    async def _received(self, count: int, hidden: int) -> Sequence[QueueMessage]:
        async def first_page() -> Sequence[ServiceMessage]:
            pages = self._client.receive_messages(messages_per_page=count, visibility_timeout=hidden).by_page()
            page = await anext(pages, None)
            return [] if page is None else [each async for each in page]

        with translated(self._what):
            found = await made_on_first_use(self._client, self.name, first_page)
            return [await self._delivered(each) for each in found]

    async def _delivered(self, found: ServiceMessage) -> QueueMessage:
        letter = await self._bodies.opened(found)
        receipt = f"{found.id}.{letter.blob}.{found.pop_receipt}"
        return shown(letter, receipt=receipt, dequeue_count=int(found.dequeue_count or 1))

    async def _given_back(self, work: asyncio.Task[Sequence[QueueMessage]]) -> None:
        with suppress(StoreError):
            for message in await work:
                with suppress(StoreError):
                    await self.release(message)


@contextmanager
def _ours(message: QueueMessage) -> Iterator[None]:
    try:
        yield
    except HttpResponseError as error:
        if code(error) in _NOT_OURS or isinstance(error, ResourceNotFoundError):
            raise ReceiptMismatchError(f"the message {message.id!r} is no longer ours") from None
        raise


def _receipt(message: QueueMessage) -> tuple[str, str, str]:
    """The service's id of the message, the blob of its body, and the pop receipt."""
    parts = _RECEIPT.fullmatch(message.receipt)
    if parts is None:
        raise ReceiptMismatchError(f"the message {message.id!r} has no receipt of this queue")
    return parts[1], parts[2], parts[3]


def _seconds(hiding: float) -> int:
    """Whole seconds, as the service takes them; a little longer rather than shorter."""
    if not 0 <= hiding <= LIMITS.longest_hiding:
        raise LimitExceededError(f"a message is hidden for 0 to {LIMITS.longest_hiding:.0f} seconds, not {hiding}")
    return math.ceil(hiding)


def _checked(body: str) -> str:
    size = len(names.text(body, "body").encode())
    if size > LIMITS.largest_message:
        raise LimitExceededError(f"the message has {size} bytes; the most is {LIMITS.largest_message}")
    return body
