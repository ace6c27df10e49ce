"""The management node of an entity: the requests of the AMQP request-response protocol of Service Bus."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from support.service_bus.amqp_errors import VENDOR, AmqpError
from support.service_bus.amqp_types import Array, Timestamp
from support.service_bus.queue_entity import QueueEntity
from support.service_bus.stored_message import DEFERRED, SCHEDULED, StoredMessage

Answer = tuple[int, Any]


def manage(entity: QueueEntity, operation: str, body: Mapping[str, Any]) -> Answer:
    """Carry out a request; the answer is its status and its body.

    Raises:
        AmqpError: it is refused, or not known.
    """
    handler = _OPERATIONS.get(operation.removeprefix(VENDOR))
    if handler is None:
        raise AmqpError("amqp:not-implemented", f"The operation {operation} is not known.", 501)
    return handler(entity, body)


def _tokens(body: Mapping[str, Any]) -> list[uuid.UUID]:
    return [token if isinstance(token, uuid.UUID) else uuid.UUID(str(token)) for token in body["lock-tokens"]]


def _renew(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    return 200, {"expirations": Array(Timestamp.code, [entity.renew(token) for token in _tokens(body)])}


def _peek(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    first, count, session = body["from-sequence-number"], body["message-count"], body.get("session-id")
    found = [
        {"message": message.encode(peeked=True)}
        for sequence, message in sorted(entity.messages.items())
        if sequence >= first and session in {None, message.session}
    ][:count]
    return (200, {"messages": found}) if found else (204, None)


def _settle(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    reason, description = body.get("deadletter-reason"), body.get("deadletter-description")
    settle: dict[str, Callable[[uuid.UUID], None]] = {
        "completed": entity.complete,
        "abandoned": entity.abandon,
        "defered": entity.defer,
        "suspended": lambda token: entity.dead_letter(token, reason, description),
    }
    for token in _tokens(body):
        settle[body["disposition-status"]](token)
    return 200, None


def _schedule(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    numbers = [entity.enqueue(StoredMessage(bytes(entry["message"]))) for entry in body["messages"]]
    return 200, {"sequence-numbers": Array(0x81, numbers)}


def _cancel(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    for message in entity.with_state(body["sequence-numbers"], SCHEDULED):
        del entity.messages[message.sequence]
    return 200, None


def _receive_deferred(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    found = entity.with_state(body["sequence-numbers"], DEFERRED)
    return 200, {"messages": [{"lock-token": entity.lock(message), "message": message.encode()} for message in found]}


def _renew_session(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    return 200, {"expiration": Timestamp(entity.renew_session(body["session-id"]))}


def _get_state(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    return 200, {"session-state": entity.session_states.get(body["session-id"])}


def _set_state(entity: QueueEntity, body: Mapping[str, Any]) -> Answer:
    entity.session_states[body["session-id"]] = body.get("session-state")
    return 200, None


_OPERATIONS: Mapping[str, Callable[[QueueEntity, Mapping[str, Any]], Answer]] = {
    "renew-lock": _renew,
    "peek-message": _peek,
    "update-disposition": _settle,
    "schedule-message": _schedule,
    "cancel-scheduled-message": _cancel,
    "receive-by-sequence-number": _receive_deferred,
    "renew-session-lock": _renew_session,
    "get-session-state": _get_state,
    "set-session-state": _set_state,
}
