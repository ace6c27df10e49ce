"""A queue in memory that behaves as one of Service Bus."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from rolehost import clock
from rolehost.errors import ReceiptMismatchError
from rolehost.stores import QueueCapabilities, QueueMessage
from support.simulation.memory import MemoryQueue, _Held


class BusQueue(MemoryQueue):
    """See `MemoryQueue`; here a message's body never changes, ids are known for ever, and locks belong to connections.

    Args:
        lock: seconds that a message is locked for its receiver, whatever it asks for.
        most_deliveries: how often a message is delivered before the broker sets it aside by itself.
    """

    def __init__(self, name: str, chance: random.Random, *, lock: float, most_deliveries: int) -> None:
        super().__init__(name, chance, waits=True, doubles=0.0)
        self.capabilities = QueueCapabilities(
            waits=True, rewrites_body=False, native_dead_letters=True, knows_depth=False
        )
        self.dropped = 0
        self._lock = lock
        self._most_deliveries = most_deliveries
        self._used: set[str] = set()
        self._owners: dict[str, object] = {}

    async def put(self, body: str, *, message_id: str, delay: float = 0.0, session: str = "") -> None:
        del session
        if message_id in self._used:
            self.dropped += 1
            return
        self._used.add(message_id)
        message = QueueMessage(id=message_id, body=body, dequeue_count=0)
        self.held[message_id] = _Held(message, clock.monotonic() + delay)
        self._news.set()

    async def receive_for(self, owner: object, count: int, wait: float) -> Sequence[QueueMessage]:
        """Receive over a connection: its end unlocks what was received."""
        messages = await super().receive(count, hide=self._lock, wait=wait)
        self._owners |= {message.receipt: owner for message in messages}
        return messages

    def _take(self, count: int, hide: float) -> list[QueueMessage]:
        for name, each in list(self.held.items()):
            spent = each.message.dequeue_count >= self._most_deliveries
            if each.visible_at <= clock.monotonic() and spent:
                del self.held[name]
                self.letters[name] = replace(each.message, reason="MaxDeliveryCountExceeded")
        return super()._take(count, hide)

    def unlock(self, owner: object) -> None:
        """The connection is gone: what it had locked is visible at once."""
        receipts = {receipt for receipt, owned_by in self._owners.items() if owned_by is owner}
        for each in self.held.values():
            if each.message.receipt in receipts:
                each.visible_at = clock.monotonic()
        for receipt in receipts:
            del self._owners[receipt]
        self._news.set()

    def _ours(self, message: QueueMessage) -> _Held:
        found = super()._ours(message)
        if found.visible_at <= clock.monotonic():
            raise ReceiptMismatchError(f"the lock on {message.id} is over")
        return found

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        del hide
        assert body is None
        found = self._ours(message)
        found.visible_at = clock.monotonic() + self._lock
        return found.message

    async def abandon(self, message: QueueMessage) -> None:
        """Unlock one message."""
        self._ours(message).visible_at = clock.monotonic()
        self._news.set()

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        found = self._ours(message)
        self.letters[message.id] = replace(found.message, reason=reason, description=description)
        del self.held[message.id]


def successor(message_id: str) -> str:
    """The id of the message that takes this one's place: whoever releases it too puts a true duplicate."""
    base, _, number = message_id.rpartition(":")
    return f"{base}:{int(number) + 1}" if number.isdigit() else f"{message_id}:1"
