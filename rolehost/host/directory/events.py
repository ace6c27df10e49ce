"""Role events in the table `events`: what happened to the instances, the newest first, for a while."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from rolehost import clock
from rolehost.errors import AlreadyExistsError, VersionMismatchError
from rolehost.stores import Row, Table

TABLE: Final = "events"
# As long as a completed job is kept; a crash loop may not fill the store before.
KEPT: Final = timedelta(days=7)
MOST_KEPT: Final = 10_000
_PRUNED_AT_ONCE: Final = 500
_LONGEST_FACTS: Final = 30_000


class RoleEvents:
    """The table of events.

    Args:
        table: it.
        writer: unique among those who write; with a number it makes an event's key.
    """

    def __init__(self, table: Table, writer: str) -> None:
        self._table = table
        self._writer = writer

    async def add(self, number: int, event: Mapping[str, Any], *, writer: str = "") -> None:
        """Write an event; harmless when repeated with the same number.

        Args:
            number: the writer's own count.
            event: `name`, `instance`, `at`, `facts`.
            writer: whose count it is, if not ours.

        Raises:
            StoreError: the store said no, or nothing.
        """
        at = str(event["at"])
        fields = {"name": str(event["name"]), "at": at, "facts": _text(event.get("facts") or {})}
        key = sorted_key(at, writer or self._writer, number)
        with suppress(AlreadyExistsError):  # the answer was lost
            await self._table.insert(key, fields, tag=str(event.get("instance") or ""))

    async def prune(self) -> None:
        """Remove a page of what is too old, or too much.

        Raises:
            StoreError: the store said no, or nothing.
        """
        before = sorted_key(clock.iso(clock.now() - KEPT), "", 0)
        surplus = sum((await self._table.counts()).by_tag.values()) - MOST_KEPT
        page = await self._table.list(limit=_PRUNED_AT_ONCE, newest_first=False)
        for place, row in enumerate(page.rows):
            if row.key >= before and place >= surplus:
                return
            with suppress(VersionMismatchError):  # another instance prunes, too
                await self._table.delete(row.key, row.version)


def sorted_key(at: str, writer: str, number: int) -> str:
    """A key that sorts by time: digits of the moment, then what makes it unique."""
    digits = "".join(character for character in at if character.isdigit())
    return f"{digits:0<17.17}-{writer}-{number:010}"


def event_of(row: Row) -> dict[str, Any]:
    """The event that a row holds."""
    facts = json.loads(str(row.fields.get("facts") or "{}"))
    return {"at": row.fields["at"], "name": row.fields["name"], "instance": row.tag, "facts": facts}


def _text(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts)
    return text if len(text) <= _LONGEST_FACTS else json.dumps({"left_out": f"{len(text)} characters"})
