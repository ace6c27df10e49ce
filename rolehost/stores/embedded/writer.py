"""The one writing thread of a process: what waits goes into one transaction, each operation in its own savepoint."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress

from rolehost import clock
from rolehost.errors import StoreError, StoreFullError
from rolehost.stores.embedded.lanes import Lane, Request
from rolehost.stores.embedded.layout import FairLock, Layout
from rolehost.stores.embedded.schema import connect, translated

# An operation that SQLite refuses for what it is; every other error of SQLite concerns the whole transaction.
_OWN_FAULT = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.InterfaceError)


class Transaction:
    """What an operation works with: the open transaction, and what is kept aside until it is known to succeed.

    Args:
        connection: the writer's.
    """

    __slots__ = ("_changes", "_group_changes", "_last", "_queues", "connection", "execute", "group_queues", "now")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.now = clock.since_boot()
        self.group_queues: set[str] = set()
        self._queues: set[str] = set()
        self._changes: dict[tuple[str, str], int] = {}
        self._group_changes: dict[tuple[str, str], int] = {}
        self._last: int | None = None

    def number(self) -> int:
        """The next number of the database's sequence; one that goes unused is lost, never given again."""
        if self._last is None:
            (self._last,) = self.execute("SELECT last FROM sequence").fetchone()
        self._last += 1
        return self._last

    def tally(self, table: str, tag: str, change: int) -> None:
        """Count a row in or out of a tag."""
        self._changes[table, tag] = self._changes.get((table, tag), 0) + change

    def announce(self, queue: str) -> None:
        """Wake the queue's receivers after the commit."""
        self._queues.add(queue)

    def keep(self) -> None:
        """The operation succeeded: what it kept aside counts."""
        for place, change in self._changes.items():
            self._group_changes[place] = self._group_changes.get(place, 0) + change
        self.group_queues |= self._queues
        self.forget()

    def forget(self) -> None:
        """Begin the next operation with nothing aside."""
        self._changes.clear()
        self._queues.clear()

    def write_aside(self) -> None:
        """Write the sequence and the tallies, once for the whole group."""
        if self._last is not None:
            self.execute("UPDATE sequence SET last = ?", (self._last,))
        for (table, tag), change in self._group_changes.items():
            if change:
                self.execute(
                    "INSERT INTO tallies VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                    (table, tag, change),
                )


class Writer(Lane[Transaction]):
    """Commits groups of operations under the lock that all processes of the data directory share.

    Args:
        layout: the data directory.
        lock: the lock between processes; the writer closes it.
        ring: told the names of the queues that changed, after each commit, in the writer's thread.
    """

    def __init__(self, layout: Layout, lock: FairLock, ring: Callable[[set[str]], None]) -> None:
        super().__init__("rolehost-store-writer")
        self._layout = layout
        self._lock = lock
        self._ring = ring
        self._changed: set[str] = set()
        self._flushing = True
        self._connection = connect(layout)

    def _serve(self, group: Sequence[Request[Transaction]]) -> None:
        waiting = [request for request in group if not request.given_up()]
        if not waiting:
            return
        try:
            with self._lock:
                self._commit(waiting)
        except Exception as error:  # noqa: BLE001 - the thread must outlive anything; every caller is told
            self._roll_back()
            for request in waiting:
                request.answer = None
                request.error = translated(error)
            if isinstance(waiting[0].error, StoreFullError):
                self._make_room()

    def _commit(self, group: Sequence[Request[Transaction]]) -> None:
        self._flush_on_commit(flush=any(request.durable for request in group))
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        transaction = Transaction(self._connection)
        for request in group:
            if not request.given_up():  # perhaps while we waited for the lock
                self._run(transaction, request)
        transaction.write_aside()
        execute("COMMIT")
        self._changed = transaction.group_queues

    def _flush_on_commit(self, *, flush: bool) -> None:
        """Leave out the flush for receives and renewals: a power failure that undoes them only repeats a delivery."""
        if flush != self._flushing:
            self._connection.execute("PRAGMA synchronous=FULL" if flush else "PRAGMA synchronous=NORMAL")
            self._flushing = flush

    def _run(self, transaction: Transaction, request: Request[Transaction]) -> None:
        execute = self._connection.execute
        execute("SAVEPOINT operation")
        try:
            request.answer = request.work(transaction)
        except Exception as error:  # anything that the operation raises is its own, save a failing database
            if isinstance(error, sqlite3.Error) and not isinstance(error, _OWN_FAULT):
                raise
            execute("ROLLBACK TO operation")
            execute("RELEASE operation")
            transaction.forget()
            request.error = StoreError(str(error)) if isinstance(error, sqlite3.Error) else error
        else:
            execute("RELEASE operation")
            transaction.keep()

    def _roll_back(self) -> None:
        self._changed = set()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            # Nothing of the transaction was committed; a fresh connection has nothing of it either.
            self._connection.close()
            self._connection = connect(self._layout)
            self._flushing = True

    def _make_room(self) -> None:
        """Fold the log into the database: its space serves again, so that at least settling and deleting may go on."""
        with suppress(sqlite3.Error, OSError), self._lock:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _afterwards(self) -> None:
        changed, self._changed = self._changed, set()
        if changed:
            self._ring(changed)

    def _end(self) -> None:
        with self._lock:  # the last connection folds the log into the database
            self._connection.close()
        self._lock.close()
