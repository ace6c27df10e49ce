"""Every test of this folder runs once per engine, with stores of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.stores import Blobs, Queue, Stores, Table
from support.stores import ENGINES, Engine, unused


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture
async def stores(engine: Engine, tmp_path: Path) -> AsyncIterator[Stores]:
    async with engine.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def queue(stores: Stores) -> Queue:
    return stores.queue(unused("queue"))


@pytest.fixture
def table(stores: Stores) -> Table:
    return stores.table(unused("table"))


@pytest.fixture
def blobs(stores: Stores) -> Blobs:
    return stores.blobs
