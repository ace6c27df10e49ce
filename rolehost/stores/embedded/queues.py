"""Messages: the queue contract on SQLite."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rolehost import clock
from rolehost.errors import LimitExceededError, ReceiptMismatchError
from rolehost.stores import names
from rolehost.stores.embedded.bells import LOOK_EVERY, Bells
from rolehost.stores.embedded.reader import Reader
from rolehost.stores.embedded.writer import Transaction, Writer
from rolehost.stores.queues import DeadPage, QueueCapabilities, QueueCounts, QueueLimits, QueueMessage, no_session

LIMITS: Final = QueueLimits(largest_message=64 * 1024, longest_hiding=7 * 24 * 3600.0, receives_per_call=32)
CAPABILITIES: Final = QueueCapabilities(waits=True, rewrites_body=True, native_dead_letters=False, knows_depth=True)
POISON: Final = "-poison"
_LAST: Final = "\U0010ffff"
_RECEIPT: Final = re.compile(r"([0-9]{1,18})\.[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What a receive found; without messages, when the next one becomes visible."""

    messages: Sequence[QueueMessage]
    next_in: float | None = None


class EmbeddedQueue:
    """A queue on SQLite.

    Args:
        name: its name.
        writer: where writes go.
        reader: where reads go.
        bells: what wakes a waiting receiver.
    """

    def __init__(self, name: str, writer: Writer, reader: Reader, bells: Bells) -> None:
        self._name = names.queue_name(name)
        self._writer = writer
        self._reader = reader
        self._bells = bells

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._name

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
        await self._writer.do(lambda transaction: put(transaction, self._name, body, message_id, delay))

    async def receive(self, count: int, *, hide: float, wait: float = 0.0) -> Sequence[QueueMessage]:
        """See `Queue.receive`."""
        if not 1 <= count <= LIMITS.receives_per_call:
            raise LimitExceededError(f"a receive takes 1 to {LIMITS.receives_per_call} messages")
        _hiding(hide)
        deadline = clock.monotonic() + wait
        delivery = await self._take(count, hide)
        if delivery.messages or wait <= 0:
            return delivery.messages
        with self._bells.listen(self._name) as listener:
            while True:
                # Look only after listening: a message that comes in between rings.
                delivery = await self._take(count, hide)
                left = deadline - clock.monotonic()
                if delivery.messages or left <= 0:
                    return delivery.messages
                until_next = LOOK_EVERY if delivery.next_in is None else min(delivery.next_in, LOOK_EVERY)
                await listener.wait(min(left, until_next))

    async def _take(self, count: int, hide: float) -> _Delivery:
        # An empty queue is only read: who waits takes the lock that all processes share for nothing else than messages.
        next_in = await self._reader.do(lambda connection: _next_in(connection, self._name))
        if next_in is None or next_in > 0:
            return _Delivery((), next_in)
        return await self._writer.do(
            lambda transaction: _receive(transaction, self._name, count, hide),
            durable=False,
            regret=self._put_back,
        )

    def _put_back(self, delivery: _Delivery) -> None:
        """The receiver was cancelled before it heard of the messages: they were never delivered."""
        if delivery.messages:
            self._writer.post(lambda transaction: _undo_receive(transaction, self._name, delivery.messages))

    async def renew(self, message: QueueMessage, *, hide: float, body: str | None = None) -> QueueMessage:
        """See `Queue.renew`."""
        return await self._writer.do(
            lambda transaction: _renew(transaction, self._name, message, hide, body), durable=False
        )

    async def complete(self, message: QueueMessage) -> None:
        """See `Queue.complete`."""
        # A power failure may bring the message back: its row is terminal then, and it is settled again.
        await self._writer.do(lambda transaction: _complete(transaction, self._name, message), durable=False)

    async def release(self, message: QueueMessage, *, delay: float = 0.0, body: str | None = None) -> None:
        """See `Queue.release`."""
        await self._writer.do(lambda transaction: _release(transaction, self._name, message, delay, body))

    async def dead_letter(self, message: QueueMessage, *, reason: str, description: str = "") -> None:
        """See `Queue.dead_letter`."""
        await self._writer.do(lambda transaction: _dead_letter(transaction, self._name, message, reason, description))

    async def peek(self, count: int, *, dead: bool = False) -> Sequence[QueueMessage]:
        """See `Queue.peek`."""
        name = self._name + POISON if dead else self._name
        return await self._reader.do(lambda connection: _peek(connection, name, count))

    async def dead(self, limit: int, *, cursor: str | None = None, prefix: str = "") -> DeadPage:
        """See `Queue.dead`."""
        names.page_size(limit)
        after = names.number_from_cursor(cursor)
        return await self._reader.do(lambda connection: _dead(connection, self._name + POISON, limit, after, prefix))

    async def remove_dead(self, message_id: str) -> bool:
        """See `Queue.remove_dead`."""
        removed = await self._writer.do(
            lambda transaction: (
                transaction.execute(
                    "DELETE FROM messages WHERE queue = ? AND id = ? AND reason IS NOT NULL",
                    (self._name + POISON, message_id),
                ).rowcount
            )
        )
        return removed > 0

    async def counts(self) -> QueueCounts:
        """See `Queue.counts`."""
        return await self._reader.do(lambda connection: _counts(connection, self._name))


def put(transaction: Transaction, queue: str, body: str, message_id: str, delay: float = 0.0) -> None:
    """Add a message within a transaction."""
    _body(body)
    due = transaction.now + _hiding(delay) if delay else None
    transaction.execute(
        "INSERT INTO messages (seq, queue, id, body, due, reason) VALUES (?, ?, ?, ?, ?, ?)",
        (
            transaction.number(),
            queue,
            names.text(message_id, "message_id"),
            body,
            due,
            "" if queue.endswith(POISON) else None,
        ),
    )
    transaction.announce(queue)


def _receive(transaction: Transaction, queue: str, count: int, hide: float) -> _Delivery:
    execute = transaction.execute
    execute("UPDATE messages SET due = NULL WHERE queue = ? AND due <= ?", (queue, transaction.now))
    found = execute(
        "SELECT seq, id, body, dequeue_count + 1, reason, description FROM messages "
        "WHERE queue = ? AND due IS NULL ORDER BY seq LIMIT ?",
        (queue, count),
    ).fetchall()
    if not found:
        (due,) = execute("SELECT min(due) FROM messages WHERE queue = ? AND due IS NOT NULL", (queue,)).fetchone()
        return _Delivery((), None if due is None else due - transaction.now)
    messages = [
        QueueMessage(
            id=message_id,
            body=body,
            dequeue_count=deliveries,
            receipt=_receipt(seq),
            reason=reason or "",
            description=description,
        )
        for seq, message_id, body, deliveries, reason, description in found
    ]
    due = transaction.now + hide
    transaction.connection.executemany(
        "UPDATE messages SET due = ?, receipt = ?, dequeue_count = dequeue_count + 1 WHERE seq = ?",
        [(due, message.receipt, columns[0]) for message, columns in zip(messages, found, strict=True)],
    )
    _announce_if_soon(transaction, queue, hide)
    return _Delivery(messages)


def _next_in(connection: sqlite3.Connection, queue: str) -> float | None:
    """Seconds until a message is visible, 0 or less where one is; None where there is none."""
    if connection.execute("SELECT 1 FROM messages WHERE queue = ? AND due IS NULL LIMIT 1", (queue,)).fetchone():
        return 0.0
    (due,) = connection.execute(
        "SELECT min(due) FROM messages WHERE queue = ? AND due IS NOT NULL", (queue,)
    ).fetchone()
    return None if due is None else float(due) - clock.since_boot()


def _undo_receive(transaction: Transaction, queue: str, messages: Sequence[QueueMessage]) -> None:
    for message in messages:
        transaction.execute(
            "UPDATE messages SET due = NULL, receipt = '', dequeue_count = dequeue_count - 1 "
            "WHERE seq = ? AND queue = ? AND receipt = ?",
            (_seq(message), queue, message.receipt),
        )
    transaction.announce(queue)


def _renew(transaction: Transaction, queue: str, message: QueueMessage, hide: float, body: str | None) -> QueueMessage:
    seq = _seq(message)
    renewed = QueueMessage(
        id=message.id,
        body=message.body if body is None else _body(body),
        dequeue_count=message.dequeue_count,
        receipt=_receipt(seq),
        reason=message.reason,
        description=message.description,
    )
    changed = transaction.execute(
        "UPDATE messages SET due = ?, receipt = ?, body = coalesce(?, body) "
        "WHERE seq = ? AND queue = ? AND receipt = ?",
        (transaction.now + _hiding(hide), renewed.receipt, body, seq, queue, message.receipt),
    )
    _ours(changed, message)
    _announce_if_soon(transaction, queue, hide)
    return renewed


def _complete(transaction: Transaction, queue: str, message: QueueMessage) -> None:
    changed = transaction.execute(
        "DELETE FROM messages WHERE seq = ? AND queue = ? AND receipt = ?", (_seq(message), queue, message.receipt)
    )
    _ours(changed, message)


def _release(transaction: Transaction, queue: str, message: QueueMessage, delay: float, body: str | None) -> None:
    due = transaction.now + _hiding(delay) if delay else None
    changed = transaction.execute(
        "UPDATE messages SET due = ?, receipt = '', body = coalesce(?, body) "
        "WHERE seq = ? AND queue = ? AND receipt = ?",
        (due, None if body is None else _body(body), _seq(message), queue, message.receipt),
    )
    _ours(changed, message)
    transaction.announce(queue)


def _dead_letter(transaction: Transaction, queue: str, message: QueueMessage, reason: str, description: str) -> None:
    poison = queue + POISON
    changed = transaction.execute(
        "UPDATE messages SET seq = ?, queue = ?, due = NULL, receipt = '', dequeue_count = 0, reason = ?, "
        "description = ? WHERE seq = ? AND queue = ? AND receipt = ?",
        (
            transaction.number(),
            poison,
            names.text(reason, "reason"),
            names.text(description, "description"),
            _seq(message),
            queue,
            message.receipt,
        ),
    )
    _ours(changed, message)
    transaction.announce(poison)


def _peek(connection: sqlite3.Connection, queue: str, count: int) -> Sequence[QueueMessage]:
    now = clock.since_boot()
    found = connection.execute(
        "SELECT * FROM (SELECT seq, id, body, dequeue_count, reason, description FROM messages "
        "WHERE queue = ? AND due IS NULL ORDER BY seq LIMIT ?) UNION ALL "
        "SELECT seq, id, body, dequeue_count, reason, description FROM messages WHERE queue = ? AND due <= ? "
        "ORDER BY seq LIMIT ?",
        (queue, count, queue, now, count),
    )
    return [
        QueueMessage(id=message_id, body=body, dequeue_count=deliveries, reason=reason or "", description=description)
        for _, message_id, body, deliveries, reason, description in found
    ]


def _dead(connection: sqlite3.Connection, queue: str, limit: int, after: int, prefix: str) -> DeadPage:
    # By id where one is asked for, else in the order of their coming: two indexes, two statements.
    columns = "SELECT seq, id, body, dequeue_count, reason, description FROM messages"
    if prefix:
        query = (
            f"{columns} INDEXED BY messages_dead WHERE queue = ?1 AND reason IS NOT NULL AND id >= ?2 AND id < ?3 "
            "AND seq > ?4 AND (due IS NULL OR due <= ?5) ORDER BY seq LIMIT ?6"
        )
    else:
        query = (
            f"SELECT * FROM ({columns} WHERE queue = ?1 AND due IS NULL AND seq > ?4 ORDER BY seq LIMIT ?6) UNION ALL "  # noqa: S608 - fixed parts
            f"{columns} WHERE queue = ?1 AND due <= ?5 AND seq > ?4 ORDER BY seq LIMIT ?6"
        )
    now = clock.since_boot()
    found = connection.execute(query, (queue, prefix, prefix + _LAST, after, now, limit + 1)).fetchall()
    messages = [
        QueueMessage(id=message_id, body=body, dequeue_count=deliveries, reason=reason or "", description=description)
        for _, message_id, body, deliveries, reason, description in found[:limit]
    ]
    return DeadPage(messages=messages, cursor=names.to_cursor(str(found[limit - 1][0])) if len(found) > limit else None)


def names_of_queues(connection: sqlite3.Connection) -> Sequence[str]:
    """See `Stores.queues`; its cost follows the number of queues, not of messages."""
    found: set[str] = set()
    for held in ("due IS NULL", "due IS NOT NULL"):
        last = ""
        while row := connection.execute(
            f"SELECT min(queue) FROM messages WHERE {held} AND queue > ?",  # noqa: S608 - fixed parts
            (last,),
        ).fetchone()[0]:
            last = row
            found.add(last.removesuffix(POISON))
    return sorted(found)


def _counts(connection: sqlite3.Connection, queue: str) -> QueueCounts:
    now = clock.since_boot()
    # One statement, so that no message is counted twice or missed while it moves.
    visible, due, hidden, dead = connection.execute(
        "SELECT (SELECT count(*) FROM messages WHERE queue = ?1 AND due IS NULL), "
        "(SELECT count(*) FROM messages WHERE queue = ?1 AND due <= ?3), "
        "(SELECT count(*) FROM messages WHERE queue = ?1 AND due > ?3), "
        "(SELECT count(*) FROM messages WHERE queue = ?2 AND reason IS NOT NULL)",
        (queue, queue + POISON, now),
    ).fetchone()
    return QueueCounts(visible=visible + due, hidden=hidden, dead=dead)


def _receipt(seq: int) -> str:
    """The message's place, for a quick look-up, and what nobody can guess."""
    return f"{seq}.{secrets.token_hex(8)}"


def _seq(message: QueueMessage) -> int:
    place = _RECEIPT.fullmatch(message.receipt)
    if place is None:
        raise ReceiptMismatchError(f"the message {message.id!r} has no receipt of this queue")
    return int(place[1])


def _ours(changed: sqlite3.Cursor, message: QueueMessage) -> None:
    if not changed.rowcount:
        raise ReceiptMismatchError(f"the message {message.id!r} is no longer ours")


def _announce_if_soon(transaction: Transaction, queue: str, hide: float) -> None:
    """Have waiting receivers set their timers anew, unless they will look again before the message is due anyway."""
    if hide < LOOK_EVERY:
        transaction.announce(queue)


def _hiding(seconds: float) -> float:
    if not 0 <= seconds <= LIMITS.longest_hiding:
        raise LimitExceededError(f"a message is hidden for 0 to {LIMITS.longest_hiding:.0f} seconds, not {seconds}")
    return seconds


def _body(body: str) -> str:
    size = len(names.text(body, "body").encode())
    if size > LIMITS.largest_message:
        raise LimitExceededError(f"the message has {size} bytes; the most is {LIMITS.largest_message}")
    return body
