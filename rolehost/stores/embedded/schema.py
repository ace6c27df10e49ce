"""The database: its schema, how it is opened, and what its errors mean to a caller."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path

from rolehost import clock
from rolehost.errors import StoreError, StoreFullError, StoreUnavailableError
from rolehost.stores.embedded.layout import FairLock, Layout

BUSY_SECONDS = 10.0  # only for programs that don't know our lock, such as a backup by hand

# Entry n brings a database from version n to version n + 1. Never change one that was released: add another.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # One sequence for versions and for the order of messages: no number is ever used twice.
        "CREATE TABLE sequence (last INTEGER NOT NULL)",
        "INSERT INTO sequence VALUES (0)",
        """CREATE TABLE rows (
            id INTEGER PRIMARY KEY, tbl TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
            tag TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (tbl, key))""",
        "CREATE INDEX rows_by_tag ON rows (tbl, tag, key)",
        """CREATE TABLE tallies (tbl TEXT NOT NULL, tag TEXT NOT NULL, count INTEGER NOT NULL,
            PRIMARY KEY (tbl, tag)) WITHOUT ROWID""",
        """CREATE TABLE notes (tbl TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
            PRIMARY KEY (tbl, kind, key)) WITHOUT ROWID""",
        # `due` is NULL while a message is visible: a message that was given back keeps its place, and neither a long
        # backlog nor many hidden messages slow a receive down. `reason` is NULL unless the message is a dead letter.
        """CREATE TABLE messages (
            seq INTEGER PRIMARY KEY, queue TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, due REAL,
            dequeue_count INTEGER NOT NULL DEFAULT 0, receipt TEXT NOT NULL DEFAULT '', reason TEXT,
            description TEXT NOT NULL DEFAULT '')""",
        "CREATE INDEX messages_visible ON messages (queue, seq) WHERE due IS NULL",
        "CREATE INDEX messages_hidden ON messages (queue, due) WHERE due IS NOT NULL",
        "CREATE INDEX messages_dead ON messages (queue, id) WHERE reason IS NOT NULL",
        # Which boot `due` counts its seconds from, and that moment on the wall clock.
        "CREATE TABLE boot (id TEXT NOT NULL, began REAL NOT NULL)",
    ),
)


def connect(layout: Layout) -> sqlite3.Connection:
    """A connection with the engine's settings; transactions are begun and ended by hand."""
    connection = sqlite3.connect(
        layout.database, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    for pragma in ("synchronous=FULL", "temp_store=MEMORY", "cache_size=-8192", "journal_size_limit=67108864"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def prepare(layout: Layout, lock: FairLock) -> None:
    """Bring the database to this release's schema.

    Raises:
        StoreError: a newer release made it, or it is no database.
    """
    with lock:
        try:
            connection = connect(layout)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                _migrate(connection)
                _rebase(connection)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise translated(error) from error


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the data directory was written by a newer rolehost (schema {version}); "
            f"this one knows schemas up to {len(MIGRATIONS)}"
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={number}")
        connection.execute("COMMIT")


def _rebase(connection: sqlite3.Connection) -> None:
    """Count `due` from this boot: a wall clock that steps must neither show nor hide a message whose lease is alive."""
    boot, began = _boot_id(), clock.now().timestamp() - clock.since_boot()
    connection.execute("BEGIN IMMEDIATE")
    known = connection.execute("SELECT id, began FROM boot").fetchone()
    if known is None or known[0] != boot:
        if known is not None:
            connection.execute("UPDATE messages SET due = due + ? WHERE due IS NOT NULL", (known[1] - began,))
        connection.execute("DELETE FROM boot")
        connection.execute("INSERT INTO boot VALUES (?, ?)", (boot, began))
    connection.execute("COMMIT")


def _boot_id() -> str:
    """What tells one boot of a machine from all others; empty where the kernel doesn't say."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def translated(error: BaseException) -> StoreError:
    """What an error of SQLite or of the file system means to a caller: a fresh exception of our own tree."""
    code = getattr(error, "sqlite_errorcode", None)
    # A refused write is a full disk, a quota or a file size limit: SQLite tells only the first apart.
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}:
        return StoreFullError("no space is left in the data directory")
    if code is not None and code & 0xFF in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return StoreError(f"the database in the data directory is damaged: {error}")
    return StoreUnavailableError(f"the database does not answer: {error}")
