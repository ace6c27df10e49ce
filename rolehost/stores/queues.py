"""The queue contract: what every engine's queue promises, and what each may differ in, published as data.

A message is a wake-up call, never the truth: it may come twice, late, or out of order. Verbs and words follow Azure's
queues; `tests/conformance/test_queues.py` holds every engine to this page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from rolehost.errors import InvalidParameterError

ORDERED: Final = "-ordered"
"""How the names of queues with sessions end, on engines that have any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What an engine can take.

    Args:
        largest_message: bytes of a body in UTF-8.
        longest_hiding: seconds that a message may be hidden or delayed.
        receives_per_call: messages that one receive may ask for.
    """

    largest_message: int
    longest_hiding: float
    receives_per_call: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCapabilities:
    """Where engines differ.

    Args:
        waits: a receive with `wait` returns as soon as a message comes; else it answers at once and the caller polls.
        rewrites_body: renew and release can put another body into the message (else only release can, by a new one).
        native_dead_letters: the broker has a dead-letter queue of its own.
        knows_depth: `counts` answers with numbers.
        sessions: the engine has queues with sessions: those whose names end in `ORDERED`. There every message names its
            session; those of one session are delivered one after the other, in the order of their coming, each once the
            one before is settled.
        answers_at_once: a receive without `wait` is short, and its empty answer is right; else the broker may need a
            moment to push what is there.
    """

    waits: bool
    rewrites_body: bool
    native_dead_letters: bool
    knows_depth: bool
    answers_at_once: bool = True
    sessions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMessage:
    """A received message.

    Args:
        id: the message's own id, stable over deliveries.
        body: text, as it was put.
        dequeue_count: deliveries so far, this one included, 1 at the first. For display: budgets are in the row.
        receipt: proves that this delivery is ours; renewing changes it.
        reason: why it was dead-lettered; empty elsewhere.
        description: the same, for a person.
        queue: where it came from, where a receiver takes from several; empty elsewhere.
    """

    id: str
    body: str
    dequeue_count: int = 1
    receipt: str = ""
    reason: str = ""
    description: str = ""
    queue: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """How many messages there are; None where the engine can't know.

    Args:
        visible: to be received now.
        hidden: received or delayed.
        dead: in the poison queue.
    """

    visible: int | None
    hidden: int | None
    dead: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadPage:
    """Some poison messages, the oldest first.

    Args:
        messages: as `peek` shows them: receipts are empty.
        cursor: where to go on; None at the end, or where the engine can't.
        cut: there may be more, which this engine only shows once those before them are gone (a queue of Azure Storage
            can be peeked at its first 32 messages, and no further).
    """

    messages: Sequence[QueueMessage]
    cursor: str | None = None
    cut: bool = False


class Inbox(Protocol):
    """What a worker needs of a queue: to receive, and to settle what it received."""

    @property
    def name(self) -> str:
        """The queue's name: 3 to 63 lower-case letters, digits and single hyphens, as in Azure Storage."""

    @property
    def limits(self) -> QueueLimits:
        """What this engine can take."""

    @property
    def capabilities(self) -> QueueCapabilities:
        """What this engine can do."""

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        """Take up to `count` visible messages, oldest first, and hide each for `hide` seconds.

        Args:
            count: 1 to `limits.receives_per_call`.
            hide: seconds; a message that is neither settled nor renewed becomes visible again after them.
            wait: seconds to wait for the first message, where `capabilities.waits`; an empty answer proves nothing.
                A receive that is cancelled gives back what it was about to answer.

        Raises:
            LimitExceededError: `count` or `hide` is over the limit.
        """

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        """Hide a received message for `hide` seconds from now, with another body where the engine rewrites it.

        Returns:
            The message with its new receipt; the old one is void.

        Raises:
            ReceiptMismatchError: the message is no longer ours. As in Azure Storage the end of its hiding alone doesn't
                void a receipt; only that someone received it since, or settled it.
        """

    async def complete(self, message: QueueMessage) -> None:
        """Settle a received message: it is gone.

        Raises:
            ReceiptMismatchError: the message is no longer ours.
        """

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        """Give a received message back: visible again after `delay` seconds, with another body if one is given.

        Raises:
            ReceiptMismatchError: the message is no longer ours.
        """

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        """Move a received message to the poison queue: it is there before it is gone here.

        Raises:
            ReceiptMismatchError: the message is no longer ours; nothing was moved.
        """


class Queue(Inbox, Protocol):
    """A queue and its poison queue (`<name>-poison`), at least once, nearly in order. Messages never expire."""

    async def put(self, body: str, *, message_id: str, delay: float = 0.0, session: str = "") -> None:
        """Add a message; it may be received after `delay` seconds.

        Args:
            body: text.
            message_id: its id.
            delay: seconds.
            session: on a queue that has them, else empty.

        Raises:
            LimitExceededError: the body or the delay is over the limit.
            InvalidParameterError: it names a session, and the queue has none; or names none, and the queue has them.
        """

    async def peek(self, count: int, *, dead: bool = False) -> Sequence[QueueMessage]:
        """Look at up to `count` visible messages, or poison messages, without taking them; receipts are empty."""

    async def dead(self, limit: int, *, cursor: str | None = None, prefix: str = "") -> DeadPage:
        """Poison messages, one page at a time; a cursor stays good while messages come and go.

        Args:
            limit: at most so many; a page may have fewer, or none, and still a cursor.
            cursor: where the page before ended.
            prefix: only messages whose id begins so; its cost follows what is found, where the engine can search.

        Raises:
            InvalidParameterError: the cursor is not one of ours.
        """

    async def remove_dead(self, message_id: str) -> bool:
        """Remove a message from the poison queue; False if it isn't there."""

    async def counts(self) -> QueueCounts:
        """How many messages there are."""


def no_session(session: str) -> None:
    """Refuse a session, where a queue has none.

    Raises:
        InvalidParameterError: there is one.
    """
    if session:
        raise InvalidParameterError("this queue has no sessions: Service Bus has them", "session")
