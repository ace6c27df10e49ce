"""Looking at a queue and at its dead letters, and removing one of them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver

from rolehost import clock
from rolehost.errors import InvalidParameterError, ReceiptMismatchError, StoreUnavailableError
from rolehost.stores import names
from rolehost.stores.queues import DeadPage
from rolehost.stores.service_bus.link import Link
from rolehost.stores.service_bus.messages import id_of, incoming

Look: TypeAlias = "Callable[[ServiceBusReceiver], Awaitable[list[ServiceBusReceivedMessage]]]"

_PAGE: Final = 250
_MOST_LOOKED_AT: Final = 2000
"""Dead letters that one page looks at, when few of them have the prefix."""
_MOST_TAKEN: Final = 100
_LONGEST_NUMBER: Final = 18


async def browse(
    link: Link[ServiceBusReceiver], first: int = 1, page: int = _PAGE, most: float = math.inf
) -> AsyncIterator[ServiceBusReceivedMessage]:
    """What is in a queue, in order, without taking it: also what is locked or scheduled.

    Args:
        link: the queue's receiver.
        first: the sequence number to begin with.
        page: how many the broker is asked for at a time.
        most: how many are looked at, to a page more or less.
    """
    looked_at = 0
    while looked_at < most:
        messages = await link.use("peek", _peek(first, min(page, _PAGE)))
        for message in messages:
            yield message
        if not messages:
            return
        looked_at += len(messages)
        first = (messages[-1].sequence_number or 0) + 1


def _peek(first: int, count: int) -> Look:
    return lambda receiver: receiver.peek_messages(count, sequence_number=first)


class DeadLetters:
    """A queue's native dead-letter queue.

    Args:
        link: a receiver of it.
    """

    def __init__(self, link: Link[ServiceBusReceiver]) -> None:
        self._link = link

    async def page(self, limit: int, cursor: str | None, prefix: str) -> DeadPage:
        """Some of them, the oldest first; the cursor is a sequence number.

        Raises:
            InvalidParameterError: the cursor is not one of ours.
        """
        names.page_size(limit)
        found: list[ServiceBusReceivedMessage] = []
        looked_at, last = 0, _number(cursor)
        async for message in browse(self._link, last + 1, min(limit + 1, _PAGE)):
            if len(found) == limit or looked_at == _MOST_LOOKED_AT:
                return DeadPage(messages=[incoming(letter) for letter in found], cursor=names.to_cursor(str(last)))
            looked_at, last = looked_at + 1, message.sequence_number or 0
            if id_of(message).startswith(prefix):
                found.append(message)
        return DeadPage(messages=[incoming(letter) for letter in found])

    async def remove(self, message_id: str) -> bool:
        """Remove what has this id; False if there is nothing.

        A dead letter can only be taken in its turn: what comes before it is locked meanwhile, and given back.

        Raises:
            StoreUnavailableError: somebody else has it at the moment.
        """
        before, wanted = 0, set()
        async for message in browse(self._link):
            if id_of(message) == message_id:
                wanted.add(message.sequence_number)
            elif not wanted:
                before += 1
        if not wanted:
            return False
        await self._take(wanted, before)
        return True

    async def _take(self, wanted: set[int | None], before: int) -> None:
        others: list[ServiceBusReceivedMessage] = []
        end = clock.monotonic() + self._link.bounds.operation
        try:
            while wanted and clock.monotonic() < end:
                count = max(1, min(before + len(wanted) - len(others), _MOST_TAKEN))
                for message in await self._link.use("receive", _receive(count)):
                    if message.sequence_number in wanted:
                        await self._link.use("complete", _complete(message))
                        wanted.discard(message.sequence_number)
                    else:
                        others.append(message)
        finally:
            for message in others:
                await self._give_back(message)
        if wanted:
            raise StoreUnavailableError("the dead letter is held by somebody else; its lock ends by itself")

    async def _give_back(self, message: ServiceBusReceivedMessage) -> None:
        try:
            await self._link.use("abandon", lambda receiver: receiver.abandon_message(message))
        except (StoreUnavailableError, ReceiptMismatchError):
            return  # its lock ends by itself


def _receive(count: int) -> Look:
    return lambda receiver: receiver.receive_messages(max_message_count=count, max_wait_time=1)


def _complete(message: ServiceBusReceivedMessage) -> Callable[[ServiceBusReceiver], Awaitable[None]]:
    return lambda receiver: receiver.complete_message(message)


def _number(cursor: str | None) -> int:
    place = names.from_cursor(cursor)
    if place is None:
        return 0
    if not (place.isascii() and place.isdigit() and len(place) <= _LONGEST_NUMBER):
        raise InvalidParameterError("the cursor is not one that this list gave", "cursor")
    return int(place)
