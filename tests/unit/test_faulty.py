"""The stores that fail on demand: what they promise to the tests that use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.errors import AlreadyExistsError, StoreFullError, StoreUnavailableError
from rolehost.stores import NewRow
from rolehost.stores.connect import connect
from rolehost.testing import Faults, FaultyStores


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def stores(faults: Faults, tmp_path: Path) -> AsyncIterator[FaultyStores]:
    async with connect({"ROLEHOST_DATA": str(tmp_path / "data")}) as inner:
        yield FaultyStores(inner, faults)


async def test_a_refused_call_applies_nothing(stores: FaultyStores, faults: Faults) -> None:
    table = stores.table("jobs")
    version = await table.insert("k", {"n": 1})
    faults.refuse("jobs.write", at=2)
    version = await table.write("k", version, {"n": 2})
    with pytest.raises(StoreUnavailableError):
        await table.write("k", version, {"n": 3})
    await table.write("k", version, {"n": 4})
    assert faults.fired == ["jobs.write"]


async def test_a_lost_answer_was_applied(stores: FaultyStores, faults: Faults) -> None:
    faults.lose_answer("submit")
    row = NewRow(table="jobs", key="k", fields={}, tag="queued", queue="jobs", message_id="k", message=str)
    with pytest.raises(StoreUnavailableError):
        await stores.submit(row)
    assert await stores.table("jobs").read("k")
    assert await stores.queue("jobs").peek(1)
    with pytest.raises(AlreadyExistsError):
        await stores.submit(row)


async def test_an_error_may_be_chosen(stores: FaultyStores, faults: Faults) -> None:
    faults.refuse("blobs.put", error=StoreFullError)
    with pytest.raises(StoreFullError):
        await stores.blobs.put("a", b"x")
    assert not (await stores.blobs.list()).names


async def test_a_delay_goes_by_the_clock(stores: FaultyStores, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(clock, "sleep", sleep)
    faults.delay("queue.*", 3.0, times=None)
    queue = stores.queue("jobs")
    await queue.put("x", message_id="m")
    await queue.receive(1, hide=30)
    await stores.blobs.list()
    assert slept == [3.0, 3.0]


async def test_faults_add_up_and_are_cleared(stores: FaultyStores, faults: Faults) -> None:
    faults.refuse("blobs.*", times=2)
    faults.lose_answer("*", at=3)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await stores.blobs.put("a", b"x")
    with pytest.raises(StoreUnavailableError):
        await stores.queue("jobs").counts()
    faults.clear()
    await stores.blobs.put("a", b"x")
    assert faults.calls == ["blobs.put", "blobs.put", "queue.counts", "blobs.put"]


async def test_a_stream_breaks_off(stores: FaultyStores, faults: Faults) -> None:
    await stores.blobs.put("a", bytes(600_000))
    faults.refuse("blobs.stream")
    faults.lose_answer("blobs.stream", at=2)
    with pytest.raises(StoreUnavailableError):
        await anext(stores.blobs.stream("a"))
    broken = stores.blobs.stream("a")
    assert await anext(broken)
    with pytest.raises(StoreUnavailableError):
        await anext(broken)


async def test_failing_every_call_in_turn_ends(stores: FaultyStores, faults: Faults) -> None:
    """The loop that the module's docstring recommends."""
    queue = stores.queue("jobs")
    for at in range(1, 10):
        faults.clear()
        faults.fired.clear()
        faults.refuse("*", at=at)
        try:
            await queue.put("x", message_id="m")
            for message in await queue.receive(1, hide=30):
                await queue.complete(message)
        except StoreUnavailableError:
            continue
        break
    assert (at, faults.fired) == (4, [])
