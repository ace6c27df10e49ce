"""A message as the stand-in keeps it: its sections as they came, and what the broker knows about it."""

from __future__ import annotations

import time
import uuid
from typing import Any

from support.service_bus.amqp_types import Int, Long, Symbol, Timestamp, Uint, section, sections

HEADER, DELIVERY_ANNOTATIONS, ANNOTATIONS, PROPERTIES, APPLICATION, DATA, SEQUENCE, VALUE, FOOTER = range(0x70, 0x79)
ACTIVE, LOCKED, SCHEDULED, DEFERRED = "active", "locked", "scheduled", "deferred"
_STATES = {DEFERRED: 1, SCHEDULED: 2}
_TIME_TO_LIVE = 2
_GROUP_ID = 10


def now_ms() -> int:
    """The broker's clock."""
    return int(time.time() * 1000)


class StoredMessage:
    """One message in a queue.

    Args:
        raw: the message as it came over the wire.
    """

    def __init__(self, raw: bytes) -> None:
        self.size = len(raw)
        self.header: list[Any] = [None] * 5
        self.annotations: dict[Any, Any] = {}
        self.properties: list[Any] = [None] * 13
        self.application: dict[Any, Any] = {}
        self._properties_raw = self._application_raw = self._body_raw = b""
        for code, value, as_it_came in sections(raw):
            self._take(code, value, as_it_came)
        self.scheduled_ms = int(self.annotations.get("x-opt-scheduled-enqueue-time") or 0)
        self.state = ACTIVE
        self.sequence = 0
        self.enqueued_ms = 0
        self.expires_ms: int | None = None
        self.deliveries = 0
        self.token: uuid.UUID | None = None
        self.locked_ms = 0

    def _take(self, code: int, value: Any, as_it_came: bytes) -> None:
        if code == HEADER:
            self.header = _padded(value, 5)
        elif code == ANNOTATIONS:
            self.annotations = dict(value)
        elif code == PROPERTIES:
            self.properties, self._properties_raw = _padded(value, 13), as_it_came
        elif code == APPLICATION:
            self.application, self._application_raw = dict(value), as_it_came
        elif code != DELIVERY_ANNOTATIONS:
            self._body_raw += as_it_came

    @property
    def id(self) -> Any:
        """The message id, as its sender chose it."""
        return self.properties[0]

    @property
    def session(self) -> str | None:
        """The session it belongs to."""
        return self.properties[_GROUP_ID]  # type: ignore[no-any-return]

    @property
    def time_to_live(self) -> int | None:
        """Milliseconds, if its sender set them."""
        return self.header[_TIME_TO_LIVE]  # type: ignore[no-any-return]

    def forget_times(self) -> None:
        """In a dead-letter queue nothing expires, and nothing is scheduled."""
        self.header[_TIME_TO_LIVE] = None
        self.scheduled_ms = 0
        self.expires_ms = None

    def explain(self, reason: str | None, description: str | None) -> None:
        """Say in its application properties why it is a dead letter."""
        said = {"DeadLetterReason": reason, "DeadLetterErrorDescription": description}
        self.application.update({name: text for name, text in said.items() if text is not None})
        self._application_raw = section(APPLICATION, self.application)

    def encode(self, *, peeked: bool = False) -> bytes:
        """The message as a receiver gets it."""
        annotations = dict(self.annotations)
        annotations[Symbol("x-opt-sequence-number")] = Long(self.sequence)
        annotations[Symbol("x-opt-enqueue-sequence-number")] = Long(self.sequence)
        annotations[Symbol("x-opt-enqueued-time")] = Timestamp(self.enqueued_ms)
        annotations[Symbol("x-opt-message-state")] = Int(_STATES.get(self.state, 0))
        if self.locked_ms and not peeked:
            annotations[Symbol("x-opt-locked-until")] = Timestamp(self.locked_ms)
        durable = True if self.header[0] is None else self.header[0]
        header = [durable, *self.header[1:4], Uint(self.deliveries)]
        return (
            section(HEADER, header)
            + section(ANNOTATIONS, annotations)
            + self._properties_raw
            + self._application_raw
            + self._body_raw
        )


def _padded(values: list[Any], length: int) -> list[Any]:
    return (list(values) + [None] * length)[:length]
