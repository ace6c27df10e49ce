"""The rows of batches: made, found by id or name, and written under the version that was read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from rolehost import clock
from rolehost.errors import (
    AlreadyExistsError,
    BatchStateError,
    InvalidParameterError,
    StoreUnavailableError,
    UnknownBatchError,
    VersionMismatchError,
)
from rolehost.jobs.batches.manifest import Manifest
from rolehost.jobs.batches.model import (
    LIVE,
    Batch,
    BatchState,
    NewBatch,
    asked_to_fields,
    batch_from_row,
    changes_to_fields,
    check_name,
)
from rolehost.jobs.job import new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.sniffing import UNKNOWN
from rolehost.stores import Stores
from rolehost.telemetry import emit

TABLE = "batches"
NAMES = "batchnames"
"""From a name to the latest batch that has it, so that there is never more than one on its way."""
TRIES = 8
LIVES = 1_000
"""Batches that are driven at a time, the oldest: many may wait for workers that are not there, and hold up no other."""


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Some batches, and where to go on; `cursor` is None at the end."""

    batches: Sequence[Batch]
    cursor: str | None


class BatchTable:
    """Batches over any engine.

    Args:
        stores: where they are.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._rows = stores.table(TABLE)
        self._names = stores.table(NAMES)

    def manifest(self, batch: str) -> Manifest:
        """The list of a batch's items."""
        return Manifest(self._stores.blobs, batch)

    async def create(self, asked: NewBatch) -> Batch:
        """A new batch; or the one of this name that is still open, where exactly the same is asked of it.

        Raises:
            InvalidParameterError: the name or a parameter can't be accepted.
            BatchStateError: a batch of this name is on its way.
        """
        kind_named(asked.kind).parse(asked.given, UNKNOWN)
        if not asked.name:
            return await self._insert(new_id(), asked)
        key = _name_key(check_name(asked.name))
        for _ in range(TRIES):
            with suppress(AlreadyExistsError, VersionMismatchError):  # somebody else was faster: look again
                found = await self._reserved(key, asked)
                return found if isinstance(found, Batch) else await self._insert(found, asked)
        raise StoreUnavailableError(f"the batch {asked.name} could not be made: others kept making it")

    async def _reserved(self, key: str, asked: NewBatch) -> str | Batch:
        """The id that a new batch of this name is to have, or the batch that has the name."""
        row = await self._names.read(key)
        chosen = new_id()
        if row is None:
            await self._names.insert(key, {"batch": chosen, "name": asked.name})
            return chosen
        existing = await self.read(reserved := str(row.fields["batch"]))
        if existing is None:
            return reserved  # whoever reserved it was killed, or is about to use it
        if existing.state.over:
            await self._names.write(key, row.version, {"batch": chosen})
            return chosen
        if existing.state is not BatchState.OPEN:
            raise BatchStateError(f"a batch named {asked.name} is on its way: {existing.state}, {existing.items} items")
        if replace(existing.asked, submitter=asked.submitter) != asked:
            raise BatchStateError(
                f"a batch named {asked.name} is open, for other jobs than these: their kind, parameters, priority, "
                "webhook or what follows differ"
            )
        return existing

    async def _insert(self, batch: str, asked: NewBatch) -> Batch:
        await self._rows.insert(batch, asked_to_fields(asked), tag=BatchState.OPEN.tag)
        emit("batch.created", batch=batch, name=asked.name, kind=asked.kind)
        return await self.get(batch)

    async def read(self, batch: str) -> Batch | None:
        """A batch by its id."""
        row = await self._rows.read(batch)
        return batch_from_row(row) if row else None

    async def get(self, batch: str) -> Batch:
        """A batch by its id.

        Raises:
            UnknownBatchError: there is none.
        """
        if (found := await self.read(batch)) is None:
            raise UnknownBatchError("no batch has this id")
        return found

    async def named(self, name: str) -> Batch:
        """The latest batch of a name, or the one that has it for its id.

        Raises:
            UnknownBatchError: there is none.
        """
        row = await self._names.read(_name_key(name))
        found = await self.read(str(row.fields["batch"]) if row else name) if row or _could_be_key(name) else None
        if found is None:
            raise UnknownBatchError("no batch has this name")
        return found

    async def list(self, *, limit: int = 50, cursor: str | None = None) -> BatchPage:
        """Batches, the newest first."""
        page = await self._rows.list(limit=limit, cursor=cursor)
        return BatchPage([batch_from_row(row) for row in page.rows], page.cursor)

    async def live(self) -> Sequence[Batch]:
        """Those that somebody has to drive, the oldest first."""
        page = await self._rows.list(tag=LIVE, limit=LIVES, newest_first=False)
        return [batch_from_row(row) for row in page.rows]

    async def over(self, state: BatchState, *, limit: int) -> Sequence[Batch]:
        """The oldest of those that are over."""
        page = await self._rows.list(tag=state.tag, limit=limit, newest_first=False)
        return [batch_from_row(row) for row in page.rows]

    async def write(self, batch: Batch, **changes: Any) -> Batch:
        """Change a batch, if it is still as it was read.

        Raises:
            VersionMismatchError: it is not; nothing was written.
        """
        state: BatchState = changes.get("state", batch.state)
        version = await self._rows.write(batch.id, batch.version, changes_to_fields(changes), tag=state.tag)
        return replace(batch, **changes, version=version)

    async def seal(self, batch: str) -> Batch:
        """Nothing more is added; the jobs begin. Sealing again changes nothing.

        Raises:
            UnknownBatchError: there is no such batch.
            BatchStateError: it is cancelled, or about to be.
        """
        found = await self._turned(batch, BatchState.OPEN, BatchState.SEALING)
        if found.state in {BatchState.CANCELLING, BatchState.CANCELLED}:
            raise BatchStateError(f"the batch {found.name} is {found.state}")
        return found

    async def cancel(self, batch: str) -> Batch:
        """None of what waits is run, what runs is stopped. Cancelling again changes nothing.

        Raises:
            UnknownBatchError: there is no such batch.
            BatchStateError: it is done.
        """
        states = (BatchState.OPEN, BatchState.SEALING, BatchState.RUNNING)
        found = await self._turned(batch, *states, BatchState.CANCELLING)
        if found.state is BatchState.DONE:
            raise BatchStateError(f"the batch {found.name} is done: it is too late to cancel it")
        return found

    async def _turned(self, batch: str, *states: BatchState) -> Batch:
        """The batch in the last of the states, if it was in one of the others."""
        *before, after = states
        for _ in range(TRIES):
            found = await self.get(batch)
            if found.state not in before:
                return found
            changes = {"sealed_at": clock.now()} if after is BatchState.SEALING else {}
            with suppress(VersionMismatchError, StoreUnavailableError):  # the row tells whether it was written
                turned = await self.write(found, state=after, **changes)
                emit("batch.turned", batch=batch, state=after)
                return turned
        raise StoreUnavailableError(f"the batch {batch} could not be written: its row kept changing")

    async def remove(self, batch: Batch) -> None:
        """One that is over goes: first its name, for the next of this name must not get its id."""
        if batch.asked.name:
            key = _name_key(batch.asked.name)
            row = await self._names.read(key)
            if row is not None and row.fields["batch"] == batch.id:
                await self._names.delete(key, row.version)
        await self.manifest(batch.id).remove()
        await self._rows.delete(batch.id, batch.version)


def _name_key(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:40]


def _could_be_key(name: str) -> bool:
    try:
        check_name(name)
    except InvalidParameterError:
        return False
    return not set(name) & set("/\\#?")
