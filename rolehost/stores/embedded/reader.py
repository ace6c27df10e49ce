"""The reading thread: snapshots of what is committed, so that no reader waits for a writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from rolehost.stores.embedded.lanes import Lane, Request
from rolehost.stores.embedded.layout import Layout
from rolehost.stores.embedded.schema import connect, translated


class Reader(Lane[sqlite3.Connection]):
    """Serves reads on a connection of its own; a write that was answered is seen by every later read.

    Args:
        layout: the data directory.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__("rolehost-store-reader")
        self._connection = connect(layout)
        self._connection.execute("PRAGMA query_only=ON")

    def _serve(self, group: Sequence[Request[sqlite3.Connection]]) -> None:
        for request in group:
            if request.given_up():
                continue
            try:
                request.answer = request.work(self._connection)
            except sqlite3.Error as error:
                request.error = translated(error)
            except Exception as error:  # noqa: BLE001 - the thread must outlive anything; the caller is told
                request.error = error

    def _end(self) -> None:
        self._connection.close()
