"""The embedded engine among several processes, killed ones and full disks included."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from rolehost.stores.embedded import EmbeddedStores
from support.stores import process


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def environ(data: Path) -> dict[str, str]:
    return {"ROLEHOST_DATA": str(data)}


async def _killed_after(environ: dict[str, str], lines: int, *arguments: str) -> set[str]:
    """What a process printed that was killed after so many lines."""
    async with process(environ, *arguments) as child:
        assert child.stdout is not None
        printed = [(await child.stdout.readline()).decode().strip() for _ in range(lines)]
        child.kill()
        printed += (await child.stdout.read()).decode().split("\n")[:-1]
    return set(printed)


def _integrity(data: Path) -> str:
    connection = sqlite3.connect(data / "store.db")
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


async def test_a_killed_process_loses_nothing_that_was_acknowledged(data: Path, environ: dict[str, str]) -> None:
    acknowledged: set[str] = set()
    for turn in range(3):
        acknowledged |= await _killed_after(environ, 200 + 37 * turn, "submit", "jobs", "jobs", f"t{turn}-")
    assert len(acknowledged) > 600
    stores = await EmbeddedStores.open(data)
    rows: dict[str, str] = {}
    cursor = None
    while True:
        page = await stores.table("jobs").list(limit=1000, cursor=cursor)
        rows |= {row.key: row.version for row in page.rows}
        if (cursor := page.cursor) is None:
            break
    messages = {message.id: message.body for message in await stores.queue("jobs").peek(100_000)}
    counts = await stores.table("jobs").counts()
    await stores.close()
    assert acknowledged <= rows.keys()
    assert messages == rows, "each row has its message, each message its row, under one version"
    assert len(set(rows.values())) == len(rows)
    assert counts.by_tag == {"queued": len(rows)}
    assert _integrity(data) == "ok"


async def test_a_killed_process_leaves_no_half_blob(data: Path, environ: dict[str, str], tmp_path: Path) -> None:
    acknowledged = await _killed_after(environ, 5, "blobs", "inputs")
    stores = await EmbeddedStores.open(data)
    names = (await stores.blobs.list()).names
    assert acknowledged <= set(names)
    for name in names:
        facts = await stores.blobs.download(name, target := tmp_path / "target")
        assert facts.size == 1024 * 1024
        assert (
            hashlib.sha256(target.read_bytes()).hexdigest() == facts.sha256 == (await stores.blobs.facts(name)).sha256
        )
        target.unlink()
    assert not list((data / "blobs" / ".tmp").iterdir())
    await stores.close()


async def test_no_process_starves(data: Path, environ: dict[str, str]) -> None:
    async with (
        process(environ, "hammer", "jobs", "jobs", "3") as one,
        process(environ, "hammer", "jobs", "jobs", "3") as other,
    ):
        outputs = await asyncio.gather(one.communicate(), other.communicate())
        assert (one.returncode, other.returncode) == (0, 0)
    cycles, waits = zip(*(map(float, output.decode().split()) for output, _ in outputs), strict=True)
    assert min(cycles) > max(cycles) / 4
    assert max(waits) < 1.5
    assert _integrity(data) == "ok"


async def test_a_full_disk_is_told_and_what_was_acknowledged_stays_and_work_goes_on(
    data: Path, environ: dict[str, str]
) -> None:
    async with process(environ, "fill", "jobs", "1000000") as child:
        output, _ = await child.communicate()
        assert child.returncode == 0
    *acknowledged, last = output.decode().split()
    assert last == "full"
    assert len(acknowledged) > 10
    stores = await EmbeddedStores.open(data)
    assert {row.key for row in (await stores.table("jobs").list(limit=1000)).rows} == set(acknowledged)
    await stores.table("jobs").insert("space-again", {})
    await stores.close()
    assert _integrity(data) == "ok"


async def test_a_stopped_neighbour_leaves_no_trace(data: Path, environ: dict[str, str]) -> None:
    """Its bells go when they are rung, its locks when it dies."""
    stores = await EmbeddedStores.open(data)
    async with process(environ, "submit", "jobs", "jobs", "k") as child:
        assert child.stdout is not None
        await child.stdout.readline()
        os.kill(child.pid, 19)  # SIGSTOP, perhaps while it holds the lock
        os.kill(child.pid, 9)
        await child.wait()
    await asyncio.wait_for(stores.table("jobs").insert("mine", {}), 5)
    await stores.close()
