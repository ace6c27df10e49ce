"""Between the SDK's messages and the contract's."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Final

from azure.servicebus import ServiceBusMessage, ServiceBusMessageState, ServiceBusReceivedMessage
from azure.servicebus.amqp import AmqpMessageBodyType

from rolehost import clock
from rolehost.stores.queues import QueueMessage

_LONGEST_ID: Final = 128
_WHOLE_ID: Final = "rolehost-id"
"""The property with an id that is longer than Service Bus takes; its hash stands in for it."""
_WAKE: Final = re.compile(r"(.*:)([0-9]{1,9})", re.DOTALL)


def outgoing(body: str, message_id: str, delay: float, session: str = "") -> ServiceBusMessage:
    """A message to send; with a delay it is scheduled."""
    at = clock.now() + timedelta(seconds=delay) if delay > 0 else None
    in_session = session or None
    if len(message_id) <= _LONGEST_ID:
        return ServiceBusMessage(
            body.encode(), message_id=message_id, scheduled_enqueue_time_utc=at, session_id=in_session
        )
    return ServiceBusMessage(
        body.encode(),
        session_id=in_session,
        message_id=hashlib.sha256(message_id.encode()).hexdigest(),
        application_properties={_WHOLE_ID: message_id},
        scheduled_enqueue_time_utc=at,
    )


def id_of(message: ServiceBusReceivedMessage) -> str:
    """A message's id as it was put; one that others have sent may lack it."""
    whole = (message.application_properties or {}).get(_WHOLE_ID.encode())
    if isinstance(whole, bytes):
        return whole.decode()
    return str(message.message_id or f"#{message.sequence_number}")


def incoming(message: ServiceBusReceivedMessage, receipt: str = "") -> QueueMessage:
    """A message as the contract has it."""
    return QueueMessage(
        id=id_of(message),
        body=_text(message),
        dequeue_count=(message.delivery_count or 0) + 1,
        receipt=receipt,
        reason=message.dead_letter_reason or "",
        description=message.dead_letter_error_description or "",
    )


def is_visible(message: ServiceBusReceivedMessage) -> bool:
    """Whether a message that was looked at is neither scheduled nor deferred; it may be locked all the same."""
    return message.state == ServiceBusMessageState.ACTIVE


def next_wake(message_id: str) -> str:
    """The id of the message that follows this one: `<job>:7` after `<job>:6`.

    A message is only settled once the next one is known to be there, so that one whose id is there already, and which
    duplicate detection drops, is no loss.
    """
    wake = _WAKE.fullmatch(message_id)
    return f"{wake[1]}{int(wake[2]) + 1}" if wake else f"{message_id}:1"


def _text(message: ServiceBusReceivedMessage) -> str:
    if message.body_type == AmqpMessageBodyType.DATA:
        return b"".join(message.body).decode("utf-8", "replace")
    return str(message)
