"""Faults at exact points of real workers: a role strikes itself at a named call of its stores; what is left then."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from rolehost.jobs.job import Job, JobState, new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.wake_up import WakeUp
from support.engines import ENGINES, SERVICE_BUS, Engine, every_engine
from support.fault_site import GOOD, KIND, Site, gone, opened, state_of, striking_service
from support.jobs import until
from support.service import Service

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Service]:
    with striking_service(tmp_path_factory.mktemp("faults"), engine) as service:
        yield service


@pytest.fixture
async def site(service: Service, engine: Engine) -> AsyncIterator[Site]:
    async with opened(service, engine) as site:
        yield site


POINTS = {
    "received, not claimed": ("queue.receive", "after", ["ok"]),
    "claimed": ("jobs.write", "after", ["worker_lost", "ok"]),
    "half of the asset is here": ("blobs.download", "during", ["worker_lost", "ok"]),
    "the application is done": ("blobs.put", "before", ["worker_lost", "ok"]),
    "half of the result is stored": ("blobs.put", "during", ["worker_lost", "ok"]),
    "all of the result is stored": ("blobs.put", "after", ["worker_lost", "ok"]),
    "committed": ("queue.complete", "before", ["ok"]),
    "settled": ("queue.complete", "after", ["ok"]),
}


def is_met(engine: Engine, point: str) -> bool:
    """All on each engine, but on Service Bus those of the queue: blobs and rows are the embedded ones there."""
    return engine is not SERVICE_BUS or POINTS[point][0].startswith("queue.") or point == "claimed"


@pytest.mark.parametrize(
    ("engine", "call", "moment", "ends"),
    [
        pytest.param(engine, *POINTS[point], id=f"{point}-{engine.name}")
        for engine in ENGINES
        for point in POINTS
        if is_met(engine, point)
    ],
    indirect=["engine"],
    scope="module",
)
async def test_a_worker_killed_at_any_point_leaves_one_result_and_nothing_else(
    site: Site, call: str, moment: str, ends: list[str]
) -> None:
    runs = site.service.directory / f"runs-{new_id()}"
    site.order("Worker", call, moment, signal.SIGKILL)
    job = await site.submit(f'sha256sum < "$0" >> {runs}; {GOOD}', padding=9_000_000)
    await site.struck()
    row = await site.over(job)
    assert charged(row) == ends
    assert row.charges.to_json() == {"app": 0, "resource": 0, "lost": ends.count("worker_lost")}
    assert row.result is not None
    assert (row.result.size, row.result.sha256) == (row.spec.source.size, await _checksum(site, row.spec.source.blob))
    assert await _checksum(site, row.result.blob) == row.result.sha256
    seen = runs.read_text().split()[::2]
    assert set(seen) == {row.result.sha256}, "the application is never given a part of its asset"
    await site.settles()
    await until(lambda: _only(site, row), within=10)
    assert await site.row(job) == row
    assert len(runs.read_text().splitlines()) == len(seen), "it ran no more"


def charged(row: Job) -> list[str]:
    """How its attempts ended, but for those that cost nothing: leases are short, and a machine may be busy."""
    return [str(attempt.end) for attempt in row.attempts if attempt.end not in {"lease_lost", "store_error"}]


async def _checksum(site: Site, blob: str) -> str:
    found = hashlib.sha256()
    async for piece in site.stores.blobs.stream(blob):
        found.update(piece)
    return found.hexdigest()


async def _only(site: Site, row: Job) -> bool:
    """Whether the blob that the row names is the only one."""
    return row.result is not None and await site.left(row) == [row.result.blob]


@every_engine
async def test_a_killed_workers_application_dies_with_it(site: Site) -> None:
    pids = site.service.directory / f"pids-{new_id()}"
    job = await site.submit(f"echo $$ $PPID >> {pids}; [ $(wc -l < {pids}) = 1 ] && exec sleep 600; {GOOD}")

    async def runs() -> bool:
        return pids.exists() and pids.read_text().endswith("\n")

    await until(runs, within=20)
    application, role = map(int, pids.read_text().split())
    os.kill(role, signal.SIGKILL)
    await until(lambda: gone(application), within=2)
    row = await site.over(job)
    assert charged(row) == ["worker_lost", "ok"]


@every_engine
@pytest.mark.parametrize(
    ("call", "moment"), [("blobs.download", "before"), ("blobs.put", "before"), ("blobs.put", "after")]
)
async def test_a_worker_that_wakes_after_its_lease_changes_nothing(site: Site, call: str, moment: str) -> None:
    told = site.service.log().count('"lease.lost"')
    site.order("Worker", call, moment, signal.SIGSTOP)
    job = await site.submit()
    stopped = await site.struck()
    try:
        row = await site.over(job)
        assert state_of(stopped) == "T"
        assert row.result is not None
        assert charged(row) == ["worker_lost", "ok"]
        before = await _checksum(site, row.result.blob)
    finally:
        os.kill(stopped, signal.SIGCONT)

    async def heard() -> bool:
        return site.service.log().count('"lease.lost"') > told

    await until(heard, within=10)
    await site.settles()
    await until(lambda: _only(site, row), within=10)
    assert await site.row(job) == row
    assert await _checksum(site, row.result.blob) == before
    assert state_of(stopped) != "X", "it lives, and works on"


@every_engine
async def test_an_application_that_kills_its_worker_each_time_is_poisoned_and_others_are_unhurt(site: Site) -> None:
    bad = await site.submit("kill -9 $PPID; sleep 60\n")
    others = [await site.submit() for _ in range(3)]
    for other in others:
        assert (await site.over(other)).attempts[-1].end == "ok"
    row = await site.over(bad, JobState.POISONED)
    assert charged(row) == ["worker_lost"] * 3
    assert row.reason.startswith("lost: ")
    await site.settles()
    # Recovery may have woken it more than once: a second dead letter is allowed, none is not.
    assert {entry.reason for entry in await site.dead() if bad.id in entry.body} == {"lost"}


@every_engine
async def test_messages_that_are_none_are_set_aside_and_the_worker_goes_on(site: Site) -> None:
    queue = site.stores.queue(kind_named(KIND).queue)
    noise = "".join(chr(33 + number % 90) for number in range(48_000))
    sent = {"malformed": ["no JSON", noise, '{"rolehost": 99, "job": "x"}'], "orphan": [WakeUp(job=new_id()).encode()]}
    known = {entry.id for entry in await site.dead()}
    for body in [*sent["malformed"], *sent["orphan"]]:
        await queue.put(body, message_id=new_id())
    roles = site.service.pids("role_process")
    await site.over(await site.submit())
    await site.settles()
    found = [(entry.reason, entry.body) for entry in await site.dead() if entry.id not in known]
    assert sorted(found) == sorted((reason, body) for reason, bodies in sent.items() for body in bodies)
    assert site.service.pids("role_process") == roles, "no process ended of it"


@every_engine
async def test_a_cancelled_jobs_application_is_stopped_and_nothing_more_is_written(site: Site) -> None:
    pids = site.service.directory / f"pids-{new_id()}"
    job = await site.submit(f"echo $$ >> {pids}; exec sleep 600")

    async def runs() -> bool:
        return pids.exists() and pids.read_text().endswith("\n")

    await until(runs, within=30)
    cancelled = await asyncio.to_thread(site.service.command, "cancel", job.id)
    assert cancelled.returncode == 0, cancelled.stderr
    row = await site.over(job, JobState.CANCELLED)
    assert [attempt.end for attempt in row.attempts] == ["cancelled"]
    await until(lambda: gone(int(pids.read_text())), within=20)
    await site.settles()
    assert await site.row(job) == row
    assert await site.left(row) == []


async def test_a_worker_without_descriptors_charges_nothing_and_loses_nothing(site: Site) -> None:
    hold = site.service.directory / "hold"
    hold.touch()
    jobs = []
    try:
        for call in ("blobs.download", "blobs.put"):
            site.order("Worker", call, "before", "descriptors")
            jobs.append(await site.submit())
            await site.struck()
            await until(lambda: _met_an_error(site, jobs[-1]), within=20)
    finally:
        hold.unlink()
    for job in jobs:
        assert (await site.over(job)).charges.to_json() == {"app": 0, "resource": 0, "lost": 0}
    for role in site.service.pids("roles:Worker"):
        os.kill(role, signal.SIGKILL)  # what it could not remove goes when the instance starts again
    await site.settles()


async def _met_an_error(site: Site, job: Job) -> bool:
    return "store_error" in [attempt.end for attempt in (await site.row(job)).attempts]
