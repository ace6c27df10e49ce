"""Stores that are slow and fail now and then: jobs take longer, and nothing else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from rolehost import clock
from rolehost.errors import StoreError, StoreFullError, StoreUnavailableError
from rolehost.jobs.job import Job, new_id
from rolehost.jobs.recovery import Recovery
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from rolehost.testing import Faults, FaultyStores
from rolehost.workers.processing import process_message
from support.jobs import CONTENT, Bench, open_bench, succeed, until

Answer = TypeVar("Answer")


class Weather(Faults):
    """One call in ten fails, as often after it was applied as before; each is a little late."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret

    async def around(self, call: str, work: Callable[[], Awaitable[Answer]]) -> Answer:
        await clock.sleep(self._chance.uniform(0, 0.01))
        fate = self._chance.random()
        if fate < 0.1:
            self.fired.append(call)
        if fate < 0.05:
            raise StoreUnavailableError
        answer = await super().around(call, work)
        if fate < 0.1:
            raise StoreUnavailableError
        return answer


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path, retry_max=0.01) as bench:
        yield bench


@pytest.mark.parametrize("seed", range(3))
async def test_one_error_in_ten_calls_costs_time_and_no_job(bench: Bench, seed: int) -> None:
    weather = Weather(seed)
    stores = FaultyStores(bench.inner, weather)
    queue = bench.inner.queue(bench.desk.queue.name)
    desk = replace(
        bench.desk, stores=stores, jobs=JobTable(stores.table(TABLE)), queue=stores.queue(bench.desk.queue.name)
    )
    jobs = [await _submitted(stores, bench.asked(key=new_id())) for _ in range(15)]
    recovery = Recovery(stores, lease=desk.settings.lease)

    async def over() -> bool:
        await recovery.sweep()
        for message in await queue.receive(4, hide=desk.settings.lease, wait=0.1):
            with suppress(StoreError):  # as the worker's loop does
                await process_message(desk, message, succeed, root=bench.root)
        return all([(await bench.row(job.id)).state.terminal for job in jobs])

    await until(over, within=60)
    assert len(weather.fired) > 15
    rows = [await bench.row(job.id) for job in jobs]
    assert Counter(row.state for row in rows) == {"completed": 15}
    assert all((row.charges.app, row.charges.resource) == (0, 0) for row in rows)
    for row in rows:
        assert row.result is not None
        target = bench.folder / row.id
        await bench.inner.blobs.download(row.result.blob, target)
        assert target.read_bytes() == CONTENT[::-1]


async def _submitted(stores: Stores, asked: Submission) -> Job:
    """As a client that repeats its request until it is answered."""
    submitter = Submitter(stores)
    while True:
        try:
            return await submitter.submit(asked)
        except StoreError:
            continue


async def test_a_full_database_refuses_a_job_and_keeps_those_it_has(bench: Bench) -> None:
    accepted = await bench.submit()
    bench.faults.refuse("submit", times=None, error=StoreFullError)
    with pytest.raises(StoreFullError):
        await bench.submitter.submit(bench.asked())
    bench.faults.clear()
    assert list(await bench.blobs("inputs/")) == [accepted.spec.source.blob]
    await bench.process(succeed)
    assert (await bench.row(accepted.id)).state == "completed"
    assert (await bench.submitter.submit(bench.asked())).state == "queued"
