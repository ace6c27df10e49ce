"""The poison queue: letters are added, shown in pages, and removed by id.

A queue can't be searched. What removes a letter, the receipt that putting it gave, is therefore kept in a table: it
stays good until somebody receives the letter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables.aio import TableClient
from azure.storage.queue import QueueMessage as ServiceMessage
from azure.storage.queue.aio import QueueClient

from rolehost import clock
from rolehost.errors import InvalidParameterError
from rolehost.stores import names
from rolehost.stores.azure_storage import envelope
from rolehost.stores.azure_storage.envelope import Envelope
from rolehost.stores.azure_storage.failures import code
from rolehost.stores.azure_storage.wire import MOST_PEEKED, Bodies, depth, peeked, sent, shown
from rolehost.stores.queues import DeadPage, QueueMessage

TABLE: Final = "rolehostdeadletters"
SUFFIX: Final = "-poison"
_LONGEST_NAME: Final = 63
_TRACES: Final = "PartitionKey eq @queue and RowKey ge @first and RowKey lt @end"
_PLACE: Final = re.compile(r"[^|]{1,64}\|[^|]{1,64}")
_SEARCHES: Final = 8
"""Receives that the search for a letter without a trace takes at most: 256 letters."""
_HELD: Final = 30
_NO_TABLE: Final = "TableNotFound"


def poison_name(name: str) -> str:
    """`<queue>-poison`; of a name that leaves no room for that, its beginning and a hash."""
    if len(name) + len(SUFFIX) <= _LONGEST_NAME:
        return name + SUFFIX
    return f"{name[:40].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}{SUFFIX}"


class PoisonQueue:
    """The dead letters of one queue.

    Args:
        name: the queue's own name.
        client: the poison queue.
        traces: the table of receipts.
        bodies: where long bodies are.
    """

    def __init__(self, name: str, client: QueueClient, traces: TableClient, bodies: Bodies) -> None:
        self._name = name
        self._client = client
        self._traces = traces
        self._bodies = bodies

    async def add(self, letter: Envelope) -> None:
        """Put a letter; it is there when this returns."""
        text, blob = await self._bodies.sealed(letter, self._name)
        put = await sent(self._client, self._name, text)
        entity = {
            "PartitionKey": self._name,
            "RowKey": f"{_hashed(letter.id)}:{put.id}",
            "message": letter.id[:1024],
            "receipt": str(put.pop_receipt),
            "body": blob,
        }
        with suppress(AzureError):  # a letter without a trace is searched for where it is
            await self._remember(entity)

    async def peek(self, count: int) -> Sequence[QueueMessage]:
        """The first letters."""
        return [shown(await self._bodies.opened(each)) for each in await peeked(self._client, count)]

    async def page(self, limit: int, cursor: str | None, prefix: str) -> DeadPage:
        """See `Queue.dead`: a page of the first 32."""
        after = names.from_cursor(cursor) or ""
        if after and not _PLACE.fullmatch(after):
            raise InvalidParameterError("the cursor is not one that this list gave", "cursor")
        found = await peeked(self._client)
        placed = sorted((_place(each), number) for number, each in enumerate(found))
        rest = [number for place, number in placed if place > after]
        letters = [(number, await self._bodies.opened(found[number])) for number in rest]
        fitting = [(number, letter) for number, letter in letters if letter.id.startswith(prefix)]
        more = len(fitting) > limit
        return DeadPage(
            messages=[shown(letter) for _, letter in fitting[:limit]],
            cursor=names.to_cursor(_place(found[fitting[limit - 1][0]])) if more else None,
            cut=not more and len(found) == MOST_PEEKED,
        )

    async def remove(self, message_id: str) -> bool:
        """Remove every letter with an id; whether there was one."""
        removed = [await self._removed(trace) for trace in await self._found(message_id)]
        return any(removed) or await self._searched(message_id)

    async def count(self) -> int:
        """How many letters there are."""
        return await depth(self._client)

    async def _remember(self, entity: dict[str, Any]) -> None:
        try:
            await self._traces.upsert_entity(entity)
        except HttpResponseError as error:
            if code(error) != _NO_TABLE:
                raise
            with suppress(ResourceExistsError):  # another process was faster
                await self._traces.create_table()
            await self._traces.upsert_entity(entity)

    async def _found(self, message_id: str) -> Sequence[Any]:
        first = _hashed(message_id)
        parameters = {"queue": self._name, "first": f"{first}:", "end": f"{first};"}
        try:
            return [entity async for entity in self._traces.query_entities(_TRACES, parameters=parameters)]
        except ResourceNotFoundError:  # no table, no traces
            return ()

    async def _removed(self, trace: Any) -> bool:
        service_id = str(trace["RowKey"]).partition(":")[2]
        try:
            await self._client.delete_message(service_id, str(trace["receipt"]))
        except HttpResponseError as error:
            if error.status_code not in {400, 404}:
                raise
            removed = False
        else:
            removed = True
            await self._bodies.forget(str(trace["body"]))
        await self._traces.delete_entity(trace)
        return removed

    async def _searched(self, message_id: str) -> bool:
        """Look through the first letters by receiving them; the others are given back at once."""
        removed, others = False, []
        try:
            for _ in range(_SEARCHES):
                found = await self._received()
                for each in found:
                    letter = envelope.decode(str(each.content), str(each.id))
                    if letter.id == message_id:
                        await self._client.delete_message(each)
                        await self._bodies.forget(letter.blob)
                        removed = True
                    else:
                        others.append(each)
                if removed or len(found) < MOST_PEEKED:
                    return removed
        finally:
            for each in others:
                with suppress(AzureError):
                    await self._client.update_message(each.id, each.pop_receipt, visibility_timeout=0)
        return removed

    async def _received(self) -> Sequence[ServiceMessage]:
        pages = self._client.receive_messages(messages_per_page=MOST_PEEKED, visibility_timeout=_HELD).by_page()
        try:
            return [each async for each in await anext(pages)]
        except (ResourceNotFoundError, StopAsyncIteration):
            return ()


def died_now() -> str:
    """When a letter is added, as text that sorts."""
    return clock.now().isoformat(timespec="microseconds")


def _place(message: ServiceMessage) -> str:
    """Where a letter stands: by the time that it died; a foreign one by the time that it came."""
    at = envelope.decode(str(message.content), str(message.id)).at
    if not at and message.inserted_on is not None:
        at = message.inserted_on.isoformat(timespec="microseconds")
    return f"{at or '0'}|{message.id}"


def _hashed(message_id: str) -> str:
    return hashlib.sha256(message_id.encode()).hexdigest()[:32]
