"""What a queue does: locks, dead letters, schedule, sessions, time to live, duplicate detection.

The rules are those of Azure's pages on message transfers and locks, dead-letter queues, sessions, duplicate detection.
"""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from support.service_bus.amqp_errors import NO_SESSION, NOT_ALLOWED, VENDOR, AmqpError, lock_lost
from support.service_bus.stored_message import ACTIVE, DEFERRED, LOCKED, SCHEDULED, StoredMessage, now_ms

DEAD_LETTERS = "$DeadLetterQueue"
_LONGEST_ID = 128
_LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """A queue's properties, with the defaults of Azure.

    Args:
        lock_seconds: how long a delivery is locked.
        max_delivery_count: deliveries after which a message becomes a dead letter.
        time_to_live: seconds; None: for ever.
        dead_letter_on_expiry: whether what has expired becomes a dead letter.
        requires_session: whether every message names its session.
        largest_message: bytes.
        duplicate_window: seconds in which a message with an id that came before is dropped; None: never.
    """

    lock_seconds: float = 60.0
    max_delivery_count: int = 10
    time_to_live: float | None = None
    dead_letter_on_expiry: bool = False
    requires_session: bool = False
    largest_message: int = 256 * 1024
    duplicate_window: float | None = None

    @property
    def lock_ms(self) -> int:
        """The lock in milliseconds."""
        return int(self.lock_seconds * 1000)


class Consumer(Protocol):
    """A receiver's link, as a queue sees it."""

    credit: int
    session: str | None


def patience(properties: Mapping[Any, Any]) -> float:
    """Seconds that a client waits for a session with a message, by its link's properties."""
    milliseconds = properties.get(VENDOR + "timeout")
    return _LONGEST_WAIT if milliseconds is None else float(milliseconds) / 1000


class QueueEntity:
    """A queue and, unless it is one, its dead-letter queue.

    Args:
        name: its path.
        options: its properties.
        is_dead: whether this is a dead-letter queue.
    """

    def __init__(self, name: str, options: QueueOptions, *, is_dead: bool = False) -> None:
        self.name = name
        self.options = options
        self.messages: dict[int, StoredMessage] = {}
        self.consumers: deque[Consumer] = deque()
        self.sessions: dict[str, int] = {}
        self.session_states: dict[str, bytes | None] = {}
        self.dead: QueueEntity | None = None
        if not is_dead:
            self.dead = QueueEntity(
                f"{name}/{DEAD_LETTERS}", QueueOptions(lock_seconds=options.lock_seconds), is_dead=True
            )
        self._ready: list[int] = []
        self._locked: dict[uuid.UUID, StoredMessage] = {}
        self._seen: dict[object, int] = {}
        self._numbers = itertools.count(1)

    def enqueue(self, message: StoredMessage) -> int:
        """Add a message; the answer is its sequence number, 0 if it was dropped as a duplicate.

        Raises:
            AmqpError: it is too large, or names no session where one is needed.
        """
        if message.size > self.options.largest_message:
            text = f"The message has {message.size} bytes; the most is {self.options.largest_message}."
            raise AmqpError("amqp:link:message-size-exceeded", text)
        if isinstance(message.id, str) and len(message.id) > _LONGEST_ID:
            raise AmqpError("com.microsoft:argument-error", f"The MessageId has more than {_LONGEST_ID} characters.")
        if self.options.requires_session and not message.session:
            raise AmqpError(NOT_ALLOWED, "The SessionId was not set on a message, and the entity requires sessions.")
        if self._is_duplicate(message):
            return 0
        message.sequence = next(self._numbers)
        message.enqueued_ms = now_ms()
        message.expires_ms = self._expiry(message)
        message.state = SCHEDULED if message.scheduled_ms > message.enqueued_ms else ACTIVE
        self.messages[message.sequence] = message
        if message.state == ACTIVE:
            heapq.heappush(self._ready, message.sequence)
        return message.sequence

    def _is_duplicate(self, message: StoredMessage) -> bool:
        window = self.options.duplicate_window
        if window is None or message.id is None:
            return False
        now = now_ms()
        self._seen = {known: at for known, at in self._seen.items() if now - at < window * 1000}
        if message.id in self._seen:
            return True
        self._seen[message.id] = now
        return False

    def _expiry(self, message: StoredMessage) -> int | None:
        lives = message.time_to_live
        if lives is None and self.options.time_to_live is not None:
            lives = int(self.options.time_to_live * 1000)
        return None if lives is None else max(message.enqueued_ms, message.scheduled_ms) + lives

    def next_ready(self, session: str | None) -> StoredMessage | None:
        """Take the oldest message that may be delivered, of one session where the queue has them."""
        skipped = []
        found = None
        while self._ready and found is None:
            message = self.messages.get(heapq.heappop(self._ready))
            if message is None or message.state != ACTIVE:
                continue
            if self.options.requires_session and message.session != session:
                skipped.append(message.sequence)
            else:
                found = message
        for sequence in skipped:
            heapq.heappush(self._ready, sequence)
        return found

    def lock(self, message: StoredMessage) -> uuid.UUID:
        """Lock a message for its receiver; the answer is the lock's token."""
        message.state = LOCKED
        message.token = uuid.uuid4()
        message.locked_ms = now_ms() + self.options.lock_ms
        self._locked[message.token] = message
        return message.token

    def renew(self, token: uuid.UUID) -> int:
        """Hold a lock for its whole length from now; the answer is when it ends.

        Raises:
            AmqpError: it has ended.
        """
        message = self._holder(token)
        message.locked_ms = now_ms() + self.options.lock_ms
        return message.locked_ms

    def _holder(self, token: uuid.UUID) -> StoredMessage:
        message = self._locked.get(token)
        if message is None or (message.locked_ms <= now_ms() and not self.options.requires_session):
            raise lock_lost()
        return message

    def _unlock(self, token: uuid.UUID) -> StoredMessage:
        message = self._holder(token)
        del self._locked[token]
        message.token, message.locked_ms = None, 0
        return message

    def complete(self, token: uuid.UUID) -> None:
        """Settle: the message is gone."""
        del self.messages[self._unlock(token).sequence]

    def abandon(self, token: uuid.UUID) -> None:
        """Give a message back; the delivery counts."""
        self._give_back(self._unlock(token), count=True)

    def release(self, token: uuid.UUID) -> None:
        """Give a message back as if it had not been delivered."""
        self._give_back(self._unlock(token), count=False)

    def _give_back(self, message: StoredMessage, *, count: bool) -> None:
        message.token, message.locked_ms, message.state = None, 0, ACTIVE
        message.deliveries += count
        if self.dead is not None and message.deliveries >= self.options.max_delivery_count:
            text = f"Message could not be consumed after {self.options.max_delivery_count} delivery attempts."
            self._bury(message, "MaxDeliveryCountExceeded", text)
        else:
            heapq.heappush(self._ready, message.sequence)

    def defer(self, token: uuid.UUID) -> None:
        """Keep a message for who asks for its sequence number."""
        message = self._unlock(token)
        message.deliveries += 1
        message.state = DEFERRED

    def dead_letter(self, token: uuid.UUID, reason: str | None, description: str | None) -> None:
        """Move a message to the dead-letter queue."""
        self._bury(self._unlock(token), reason, description)

    def _bury(self, message: StoredMessage, reason: str | None, description: str | None) -> None:
        del self.messages[message.sequence]
        if self.dead is None:
            raise AmqpError(NOT_ALLOWED, "A dead letter can't be dead-lettered.")
        message.explain(reason, description)
        message.forget_times()
        self.dead.enqueue(message)

    def with_state(self, sequences: list[int], state: str) -> list[StoredMessage]:
        """The messages with these sequence numbers.

        Raises:
            AmqpError: one isn't there, or is in another state.
        """
        found = [self.messages.get(sequence) for sequence in sequences]
        missing = [s for s, message in zip(sequences, found, strict=True) if message is None or message.state != state]
        if missing:
            raise AmqpError(VENDOR + "message-not-found", f"No {state} message has the number {missing[0]}.", 404)
        return [message for message in found if message is not None]

    def tick(self) -> None:
        """Let time pass: locks end, what is scheduled comes due, what is old expires."""
        now = now_ms()
        for token, message in list(self._locked.items()):
            if message.locked_ms <= now and not self.options.requires_session:
                del self._locked[token]
                self._give_back(message, count=True)
        for message in list(self.messages.values()):
            self._age(message, now)
        for session, until in list(self.sessions.items()):
            if until <= now:
                self.drop_session(session)
        if self.dead is not None:
            self.dead.tick()

    def _age(self, message: StoredMessage, now: int) -> None:
        if message.state == SCHEDULED and message.scheduled_ms <= now:
            message.state, message.enqueued_ms = ACTIVE, now
            heapq.heappush(self._ready, message.sequence)
        if message.state == ACTIVE and message.expires_ms is not None and message.expires_ms <= now:
            if self.options.dead_letter_on_expiry:
                self._bury(message, "TTLExpiredException", "The message expired and was dead lettered.")
            else:
                del self.messages[message.sequence]

    def accept_session(self, wanted: str | None) -> str:
        """Lock a session, the one that is wanted or the one with the oldest message.

        Raises:
            AmqpError: another receiver has it, or there is none to be had.
        """
        if wanted is None:
            waiting = (self.messages[s].session for s in sorted(self._ready) if s in self.messages)
            wanted = next((session for session in waiting if session and session not in self.sessions), None)
            if wanted is None:
                raise AmqpError(NO_SESSION, "No session has a message.")
        if wanted in self.sessions:
            raise AmqpError(VENDOR + "session-cannot-be-locked", f"The session {wanted!r} is locked.")
        self.sessions[wanted] = now_ms() + self.options.lock_ms
        return wanted

    def renew_session(self, session: str) -> int:
        """Hold a session's lock for its whole length from now; the answer is when it ends.

        Raises:
            AmqpError: it has ended.
        """
        if session not in self.sessions:
            raise AmqpError(VENDOR + "session-lock-lost", "The lock on the session has ended.", 410)
        self.sessions[session] = now_ms() + self.options.lock_ms
        return self.sessions[session]

    def drop_session(self, session: str) -> None:
        """End a session's lock, and those of its messages."""
        self.sessions.pop(session, None)
        for token, message in list(self._locked.items()):
            if message.session == session:
                del self._locked[token]
                self._give_back(message, count=True)

    def forget(self) -> None:
        """Be as if nothing had ever come."""
        for kept in (self.messages, self._locked, self._seen, self.sessions, self.session_states):
            kept.clear()
        if self.dead is not None:
            self.dead.forget()

    def counts(self) -> Mapping[str, int]:
        """How many messages there are: active (the locked ones included), scheduled, deferred, locked, dead."""
        states = Counter(message.state for message in self.messages.values())
        return {
            "active": states[ACTIVE] + states[LOCKED],
            "scheduled": states[SCHEDULED],
            "deferred": states[DEFERRED],
            "locked": states[LOCKED],
            "dead": len(self.dead.messages) if self.dead else 0,
        }
