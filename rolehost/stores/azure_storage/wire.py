"""What both a queue and its poison queue do with messages: sent, looked at, and opened, with long bodies in blobs."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueMessage as ServiceMessage
from azure.storage.queue.aio import QueueClient

from rolehost.errors import LimitExceededError, NotFoundError, StoreError
from rolehost.stores.azure_storage import envelope
from rolehost.stores.azure_storage.blobs import AzureBlobs
from rolehost.stores.azure_storage.envelope import Envelope
from rolehost.stores.azure_storage.failures import code
from rolehost.stores.queues import QueueMessage

Answer = TypeVar("Answer")

MADE_FOR: Final = "rolehost"
"""In a queue's metadata: the name of the queue that we made it for."""
MOST_PEEKED: Final = 32
_FOR_EVER: Final = -1
_NO_QUEUE: Final = "QueueNotFound"


class Bodies:
    """Bodies that are too long for a message: the claim check.

    Args:
        blobs: where they are.
    """

    def __init__(self, blobs: AzureBlobs) -> None:
        self._blobs = blobs

    async def sealed(self, letter: Envelope, queue: str) -> tuple[str, str]:
        """A message as the service gets it, and the name of the blob that its body went into."""
        text = letter.encode()
        if len(text) <= envelope.LARGEST:
            return text, letter.blob
        blob = f"{queue}/{secrets.token_hex(16)}"
        text = letter.checked_in(blob).encode()
        if len(text) > envelope.LARGEST:
            raise LimitExceededError("the message's id and reason are over the limit of a message")
        await self._blobs.put(blob, letter.body.encode())
        return text, blob

    async def opened(self, message: ServiceMessage) -> Envelope:
        """A message with its body; one whose blob is gone keeps its name in place of a body."""
        letter = envelope.decode(str(message.content), str(message.id))
        if not letter.blob:
            return letter
        try:
            content = b"".join([piece async for piece in self._blobs.stream(letter.blob)])
        except NotFoundError:
            return letter.with_body(f"the body was in the blob {letter.blob}, which is gone")
        return letter.with_body(content.decode(errors="replace"))

    async def forget(self, blob: str) -> None:
        """Remove a body; one that stays does no harm."""
        if blob:
            with suppress(StoreError):
                await self._blobs.delete(blob)


async def sent(client: QueueClient, made_for: str, text: str, hidden: int = 0) -> ServiceMessage:
    """Put a message that never expires."""

    async def put() -> ServiceMessage:
        return await client.send_message(text, visibility_timeout=hidden, time_to_live=_FOR_EVER)

    return await made_on_first_use(client, made_for, put)


async def made_on_first_use(client: QueueClient, made_for: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Make the queue if a call finds none, and call again."""
    try:
        return await call()
    except ResourceNotFoundError as error:
        if code(error) != _NO_QUEUE:
            raise
        with suppress(ResourceExistsError):  # another process was faster
            await client.create_queue(metadata={MADE_FOR: made_for})
        return await call()


async def peeked(client: QueueClient, count: int = MOST_PEEKED) -> Sequence[ServiceMessage]:
    """The first messages that are visible; the service shows no more than 32."""
    try:
        found: Sequence[Any] = await client.peek_messages(max_messages=min(count, MOST_PEEKED))
    except ResourceNotFoundError:  # no queue, no messages
        return ()
    return found


async def depth(client: QueueClient) -> int:
    """How many messages there are, hidden ones included."""
    try:
        return int((await client.get_queue_properties()).approximate_message_count or 0)
    except ResourceNotFoundError:
        return 0


def shown(letter: Envelope, *, receipt: str = "", dequeue_count: int = 1) -> QueueMessage:
    """A message as callers see it."""
    return QueueMessage(
        id=letter.id,
        body=letter.body,
        dequeue_count=dequeue_count,
        receipt=receipt,
        reason=letter.reason,
        description=letter.description,
    )
