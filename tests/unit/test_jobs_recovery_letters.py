"""Recovery where a broker sets messages aside by itself, as Service Bus does: on its stand-in of the simulation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from rolehost.errors import NotFoundError, StoreError, StoreForbiddenError
from rolehost.jobs.job import Job, JobState, new_id
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import DEBT, TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Note, QueueMessage
from rolehost.stores.queues import DeadPage
from support.simulation.bus import BusQueue
from support.simulation.memory import MemoryStores
from support.simulation.monitors import Monitors

BROKERS_OWN = "MaxDeliveryCountExceeded"


class Place:
    """A submitter, a sweeper and a queue that delivers a message twice and no more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        monitors = Monitors()
        self.queue = BusQueue("work-jobs", random.Random(1), lock=60.0, most_deliveries=2)  # noqa: S311 - an order
        self.stores = MemoryStores(self.queue, monitors.changed, monitors.removed_blob)
        self.jobs = JobTable(self.stores.table(TABLE))
        self.recovery = Recovery(self.stores, lease=60.0)

    async def submit(self) -> Job:
        path = self.folder / new_id()
        path.write_bytes(b"asset")
        return await Submitter(self.stores).submit(Submission(path=path, name="asset", kind="work"))

    async def receive(self) -> Sequence[QueueMessage]:
        return await self.queue.receive_for(self, 1, 0.0)

    async def deliver_too_often(self) -> None:
        for _ in range(2):
            (message,) = await self.receive()
            await self.queue.abandon(message)
        assert await self.receive() == []

    def reasons(self) -> list[str]:
        return [letter.reason for letter in self.queue.letters.values()]

    async def row(self, job: Job) -> Job:
        found = await self.jobs.read(job.id)
        assert found is not None
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_a_message_that_was_delivered_too_often_comes_again_for_an_open_job(place: Place) -> None:
    job = await place.submit()
    await place.deliver_too_often()
    assert place.reasons() == [BROKERS_OWN]
    await place.recovery.sweep()
    assert place.reasons() == []
    (message,) = await place.receive()
    assert WakeUp.decode(message.body).version == job.version, "it can be claimed without reading"


async def test_it_is_forgotten_where_the_job_is_over(place: Place) -> None:
    job = await place.submit()
    await place.jobs.cancel(job)
    await place.deliver_too_often()
    await place.recovery.sweep()
    assert (place.reasons(), await place.receive()) == ([], [])


async def test_it_is_kept_for_a_person_where_there_is_no_job_or_no_sense(place: Place) -> None:
    for body in ("no sense", WakeUp(job=new_id()).encode()):
        await place.queue.put(body, message_id=new_id())
        await place.deliver_too_often()
    for _ in range(2):
        await place.recovery.sweep()
    assert (place.reasons(), await place.receive()) == ([BROKERS_OWN] * 2, [])


@pytest.mark.parametrize("reason", ["lost", BROKERS_OWN])
async def test_a_poisoned_jobs_dead_letter_pays_its_debt_and_stays(place: Place, reason: str) -> None:
    job = await place.submit()
    await place.jobs.poison(job.id, job.version, None, reason="lost: three workers")
    if reason == BROKERS_OWN:
        await place.deliver_too_often()
    else:
        (message,) = await place.receive()
        await place.queue.dead_letter(message, reason=reason)
    owed = place.stores.table(TABLE)
    assert await owed.notes(DEBT) == [Note(DEBT, job.id)]
    await place.recovery.sweep()
    assert await owed.notes(DEBT) == []
    assert place.reasons() == [reason]
    assert (await place.row(job)).state is JobState.POISONED


class Refusing(BusQueue):
    """A queue that can't be looked at."""

    def __init__(self, name: str, error: type[StoreError], asked: list[str]) -> None:
        super().__init__(name, random.Random(1), lock=60.0, most_deliveries=2)  # noqa: S311 - an order
        self._error = error
        self._asked = asked

    async def dead(self, limit: int, *, cursor: str | None = None, prefix: str = "") -> DeadPage:  # noqa: ARG002 - the contract's
        self._asked.append(self.name)
        raise self._error("no")


async def test_queues_that_fail_keep_no_letter_of_another_from_being_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A level that nobody has used has no queue, one may be refused; and a namespace holds queues of others, too."""
    asked: list[str] = []
    errors = {"others": StoreError, "a-jobs": StoreForbiddenError, "b-jobs-high": NotFoundError}
    queues: dict[str, BusQueue] = {name: Refusing(name, error, asked) for name, error in errors.items()}
    queues[place.queue.name] = place.queue

    async def names() -> list[str]:
        return sorted(queues)

    monkeypatch.setattr(place.stores, "queues", names)
    monkeypatch.setattr(place.stores, "queue", queues.__getitem__)
    await place.submit()
    await place.deliver_too_often()
    await place.recovery.sweep()
    assert (place.reasons(), asked) == ([], ["a-jobs", "b-jobs-high"])
