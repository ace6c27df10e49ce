"""Where a job comes from, and what became of it: origins and replays, as far as they are still kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rolehost.jobs.replays import REPLAYABLE, REPLAYS, Replays
from rolehost.jobs.table import TABLE, JobTable

if TYPE_CHECKING:
    from rolehost.jobs.job import Job, JobState
    from rolehost.stores import Stores

LONGEST_CHAIN = 20


@dataclass(frozen=True, slots=True)
class Kin:
    """A job of the chain, and its state; None once it was removed."""

    id: str
    state: JobState | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """The chain around a job.

    Args:
        origins: the job that it replays, then the one that this one replayed, and so on, up to `LONGEST_CHAIN`.
        replays: what it was replayed as, the oldest first.
    """

    origins: tuple[Kin, ...] = ()
    replays: tuple[Kin, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The chain as the API shows it."""
        return {
            name: [{"id": kin.id, "state": kin.state} for kin in chain]
            for name, chain in (("origins", self.origins), ("replays", self.replays))
        }


async def provenance(stores: Stores, job: Job) -> Provenance:
    """Read the chain."""
    jobs = JobTable(stores.table(TABLE))
    origins: list[Kin] = []
    known: Job | None = job
    while known and known.spec.origin and len(origins) < LONGEST_CHAIN:
        origin = known.spec.origin
        known = await jobs.read(origin)
        origins.append(Kin(origin, known.state if known else None))
    if job.state not in REPLAYABLE:
        return Provenance(tuple(origins))
    replayed = await Replays(stores.table(REPLAYS)).of(job.id)
    made = [replay.job for replay in replayed.replays]
    if replayed.reserved and await jobs.read(replayed.reserved.job):
        made.append(replayed.reserved.job)
    replays = [Kin(each, found.state if (found := await jobs.read(each)) else None) for each in made[-LONGEST_CHAIN:]]
    return Provenance(tuple(origins), tuple(replays))
