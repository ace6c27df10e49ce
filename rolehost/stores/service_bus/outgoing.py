"""Sending: what waits while a send is under way goes together with the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusSender

from rolehost.stores.service_bus.link import Link

_LARGEST_BATCH: Final = 128 * 1024
_LONGEST_BATCH: Final = 100
_OVERHEAD: Final = 512


@dataclass(slots=True, eq=False)
class _Parcel:
    message: ServiceBusMessage
    size: int
    sent: asyncio.Future[None] = field(default_factory=asyncio.Future)


class Outgoing:
    """A sender for all who put into a queue: the SDK's is for one at a time.

    Args:
        link: the sender.
    """

    def __init__(self, link: Link[ServiceBusSender]) -> None:
        self._link = link
        self._waiting: deque[_Parcel] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def send(self, message: ServiceBusMessage, size: int) -> None:
        """Send a message; it is in the queue when this returns.

        Args:
            message: the message.
            size: bytes of its body.

        Raises:
            StoreError: it may or may not be there.
        """
        parcel = _Parcel(message, size + _OVERHEAD)
        self._waiting.append(parcel)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all(), name="sends to a queue")
        await parcel.sent

    async def _send_all(self) -> None:
        while self._waiting:
            parcels = self._next_batch()
            messages = [parcel.message for parcel in parcels]
            try:
                await self._link.use(
                    "send",
                    # One alone goes as it is: the limit of a batch is lower than that of a message.
                    lambda sender, sent=messages: sender.send_messages(  # type: ignore[misc]
                        sent if len(sent) > 1 else sent[0], timeout=self._link.bounds.operation
                    ),
                )
            except Exception as error:  # noqa: BLE001 - whoever put hears of it
                for parcel in parcels:
                    if not parcel.sent.done():
                        parcel.sent.set_exception(error)
            else:
                for parcel in parcels:
                    if not parcel.sent.done():
                        parcel.sent.set_result(None)

    def _next_batch(self) -> list[_Parcel]:
        batch = [self._waiting.popleft()]
        size = batch[0].size
        while self._waiting and len(batch) < _LONGEST_BATCH and size + self._waiting[0].size <= _LARGEST_BATCH:
            batch.append(self._waiting.popleft())
            size += batch[-1].size
        return batch

    async def close(self) -> None:
        """Wait until what is being sent was sent."""
        if self._sending is not None:
            await asyncio.wait([self._sending])
