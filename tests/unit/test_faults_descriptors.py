"""A process that may open nothing more: what can't be done then is done later."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rolehost.errors import StoreUnavailableError
from rolehost.workers import scratch as scratch_module
from rolehost.workers.scratch import collect_kept, make, scratch
from support.jobs import Bench, claimed, open_bench, until


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Take all that this process may open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken[0] + 50, 100), limits[1]))
    with suppress(OSError):
        while True:
            taken.append(os.dup(0))
    try:
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_receiver_that_cannot_wait_is_told_that_the_store_is_unavailable(bench: Bench) -> None:
    queue = bench.inner.queue("waits")
    bells = bench.folder / "data"
    before = sorted(bells.rglob("*"))
    with no_descriptor_left(), pytest.raises(StoreUnavailableError):
        await queue.receive(1, hide=10, wait=5)
    assert [path for path in sorted(bells.rglob("*")) if path.is_fifo()] == [p for p in before if p.is_fifo()]
    waiting = asyncio.create_task(queue.receive(1, hide=10, wait=10))
    await asyncio.sleep(0.05)
    await queue.put("x", message_id="x")
    async with asyncio.timeout(3):
        (message,) = await waiting
    assert message.body == "x"


async def test_a_scratch_directory_that_could_not_be_removed_is_removed_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_module, "COLLECTED_EVERY", 0.02)
    job = await bench.submit()
    claim = await claimed(bench.desk, await bench.row(job.id))
    collecting = asyncio.create_task(collect_kept())
    try:
        with no_descriptor_left():
            async with scratch(bench.root, claim) as place:
                make(place, None)
            assert place.folder.exists()
            assert bench.told("scratch.kept")

        async def gone() -> bool:
            return not place.folder.exists()

        await until(gone, within=5)
        await until(lambda: _told(bench, "scratch.collected"))
        assert place.folder not in scratch_module._kept
    finally:
        collecting.cancel()
    assert {facts["folder"] for facts in bench.told("scratch.kept")} == {str(place.folder)}


async def _told(bench: Bench, event: str) -> bool:
    return bool(bench.told(event))
