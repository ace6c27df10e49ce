"""Which jobs were replayed, and as which: kept beside the rows, for a terminal row never changes.

A replay is *reserved* before anything of it is stored, under the id that the new job will have, and *recorded* once the
job is there. Whoever finds a reservation finishes that same job: a replay that was cut off is never half, nor double.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import VersionMismatchError
from rolehost.jobs.codec import dumps
from rolehost.jobs.job import JobState

if TYPE_CHECKING:
    from rolehost.stores import Row, Scalar, Table

REPLAYABLE = frozenset({JobState.POISONED, JobState.FAILED})
REPLAYS = "replays"
KEPT = 100
"""Replays of one job that are remembered, the latest: a row has limits, people have patience."""
RESERVED = timedelta(hours=24)
"""How long a reservation can be finished: the input of a submission that stays undone is collected an hour later."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay: the new job's id, and when it was made."""

    job: str
    at: datetime

    def to_json(self) -> dict[str, str]:
        """`{"job": ..., "at": ...}`."""
        return {"job": self.job, "at": clock.iso(self.at)}


@dataclass(frozen=True, slots=True)
class Replayed:
    """What is known of a job's replays.

    Args:
        version: the record's version; empty where there is no record.
        replays: those that were made, the oldest first.
        reserved: one that was begun, and whose job may or may not be there.
    """

    version: str = ""
    replays: tuple[Replay, ...] = ()
    reserved: Replay | None = None


class Replays:
    """The records, over a table of any engine.

    Args:
        table: the engine's table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def of(self, origin: str) -> Replayed:
        """What is known of the replays of a job."""
        row = await self._table.read(origin)
        return _replayed(row) if row else Replayed()

    async def reserve(self, origin: str, known: Replayed, job_id: str) -> Replayed:
        """Say which id the next replay has, before anything of it is stored.

        Raises:
            ConflictError: somebody else was faster.
        """
        reserved = Replay(job_id, clock.now())
        facts: dict[str, Scalar] = {"reserved": job_id, "reserved_at": clock.iso(reserved.at)}
        if known.version:
            version = await self._table.write(origin, known.version, facts)
        else:
            version = await self._table.insert(origin, facts)
        return Replayed(version, known.replays, reserved)

    async def record(self, origin: str, known: Replayed) -> None:
        """The reserved replay's job is there; someone who did the same, or a purge, may have been faster."""
        if known.reserved is None:
            return
        made = (*known.replays, known.reserved)[-KEPT:]
        facts: dict[str, Scalar] = {
            "replays": dumps([each.to_json() for each in made]),
            "reserved": None,
            "reserved_at": None,
        }
        with suppress(VersionMismatchError):
            await self._table.write(origin, known.version, facts)

    async def forget(self, origin: str) -> None:
        """The origin goes, and its record with it; its replays still name it."""
        row = await self._table.read(origin)
        if row is not None:
            with suppress(VersionMismatchError):
                await self._table.delete(origin, row.version)


def can_be_finished(reserved: Replay) -> bool:
    """Whether a reservation is young enough that its job may still be submitted under its id."""
    return clock.now() - reserved.at < RESERVED


def _replayed(row: Row) -> Replayed:
    made = json.loads(str(row.fields.get("replays", "[]")))
    reserved = row.fields.get("reserved")
    return Replayed(
        row.version,
        tuple(Replay(each["job"], clock.from_iso(each["at"])) for each in made),
        Replay(str(reserved), clock.from_iso(str(row.fields["reserved_at"]))) if reserved else None,
    )
