"""The embedded engine, where it promises more than the contracts: files, groups, failing commits, bells."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rolehost import clock
from rolehost.errors import AlreadyExistsError, StoreError, StoreFullError, StoreUnavailableError
from rolehost.stores import NewRow
from rolehost.stores.connect import connect
from rolehost.stores.embedded import EmbeddedStores, bells, lanes, queues, schema
from rolehost.stores.embedded.layout import Layout
from rolehost.stores.embedded.writer import Transaction
from support.stores import until


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def stores(data: Path) -> AsyncIterator[EmbeddedStores]:
    opened = await EmbeddedStores.open(data)
    yield opened
    await opened.close()


async def test_only_the_owner_reads_the_files(data: Path) -> None:
    old = os.umask(0)
    try:
        stores = await EmbeddedStores.open(data)
        await stores.table("jobs").insert("k", {})
        await stores.blobs.put("a/b", b"x")
        await stores.queue("jobs").receive(1, hide=1, wait=0.01)
    finally:
        os.umask(old)
    modes = _modes(data)
    await stores.close()
    assert modes.pop(".") == 0o711
    assert {"store.db", "store.db-wal", "store.db-shm", "blobs", "bells"} <= modes.keys()
    assert [name for name in modes if name.endswith("/a,b")], "the blob's own file is looked at"
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}


def _modes(data: Path) -> dict[str, int]:
    return {path.relative_to(data).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in [data, *data.rglob("*")]}


async def test_a_newer_schema_is_refused_with_a_clear_error(data: Path, stores: EmbeddedStores) -> None:
    with sqlite3.connect(data / "store.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreError, match="newer rolehost"):
        await EmbeddedStores.open(data)
    await stores.close()


def _no_database(data: Path) -> None:
    data.mkdir()
    (data / "store.db").write_bytes(b"this is no database" * 1000)


async def test_a_file_that_is_no_database_is_refused_with_a_clear_error(data: Path) -> None:
    _no_database(data)
    with pytest.raises(StoreError, match="damaged"):
        await EmbeddedStores.open(data)


async def test_a_directory_that_can_not_be_made_is_a_clear_error() -> None:
    with pytest.raises(StoreUnavailableError):
        await EmbeddedStores.open(Path("/dev/null/data"))


async def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(StoreError, match="'embedded'"):
        async with connect({"ROLEHOST_STORAGE": "punched_cards"}):
            pass


async def test_many_may_open_a_new_directory_at_once(data: Path) -> None:
    opened = await asyncio.gather(*(EmbeddedStores.open(data) for _ in range(8)))
    await asyncio.gather(*(stores.table("jobs").insert(f"k{n}", {}) for n, stores in enumerate(opened)))
    assert len((await opened[0].table("jobs").list()).rows) == 8
    for stores in opened:
        await stores.close()


async def test_one_operation_takes_no_neighbour_of_its_group_along(data: Path, stores: EmbeddedStores) -> None:
    table = stores.table("jobs")
    await table.insert("taken", {})
    lock = Layout(data).lock()
    with lock:  # nothing can be committed: what comes now becomes one group
        blocker = asyncio.create_task(table.insert("k-first", {}))
        await asyncio.sleep(0)
        await until(stores._writer._inbox.empty)  # taken by the writer, which now waits for the lock
        group = [
            asyncio.create_task(table.insert("k1", {}, tag="t")),
            asyncio.create_task(stores.submit(_unmakeable("k2"))),
            asyncio.create_task(table.insert("taken", {}, tag="t")),
            asyncio.create_task(table.insert("k3", {}, tag="t")),
        ]
        await asyncio.sleep(0)
        assert stores._writer._inbox.qsize() == 4
    lock.close()
    outcomes = await asyncio.gather(blocker, *group, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str, str, ZeroDivisionError, AlreadyExistsError, str]
    assert {row.key for row in (await table.list()).rows} == {"k-first", "k1", "k3", "taken"}
    assert (await table.counts()).by_tag == {"": 2, "t": 2}
    assert not await stores.queue("jobs").peek(1)


def _unmakeable(key: str) -> NewRow:
    return NewRow(
        table="jobs",
        key=key,
        fields={},
        tag="t",
        queue="jobs",
        message_id=key,
        message=lambda version: str(1 // (len(version) * 0)),
    )


async def test_a_commit_that_fails_fails_its_group_and_no_more(stores: EmbeddedStores) -> None:
    table = stores.table("jobs")
    await table.insert("before", {})
    await stores._writer.do(_allow_pages(100))
    outcomes = await asyncio.gather(
        *(table.insert(f"k{n:03}", {"text": "x" * 20_000}, tag="t") for n in range(60)), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {str, StoreFullError} or {
        type(outcome) for outcome in outcomes
    } == {StoreFullError}
    written = {f"k{n:03}" for n, outcome in enumerate(outcomes) if isinstance(outcome, str)}
    assert {row.key for row in (await table.list(limit=100)).rows} == written | {"before"}
    await stores._writer.do(_allow_pages(1_000_000))
    assert await table.insert("after", {}, tag="t")
    assert (await table.counts()).by_tag == {"": 1, "t": len(written) + 1}


def _allow_pages(pages: int) -> Callable[[Transaction], object]:
    return lambda transaction: transaction.execute(f"PRAGMA max_page_count={pages}").fetchone()


async def test_a_database_locked_by_a_stranger_is_unavailable_and_comes_back(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.1)
    stores = await EmbeddedStores.open(data)
    table = stores.table("jobs")
    stranger = sqlite3.connect(data / "store.db", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError):
        await table.insert("k", {})
    stranger.execute("ROLLBACK")
    stranger.close()
    await table.insert("k", {})
    await stores.close()


async def test_a_lock_that_stays_taken_is_unavailable_and_comes_back(
    data: Path, stores: EmbeddedStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE", 0.1)
    lock = Layout(data).lock()
    with lock, pytest.raises(StoreUnavailableError):
        await stores.table("jobs").insert("k", {})
    lock.close()
    monkeypatch.undo()
    await stores.table("jobs").insert("another", {})


async def test_a_closed_store_says_so(data: Path) -> None:
    stores = await EmbeddedStores.open(data)
    waiting = asyncio.create_task(stores.queue("jobs").receive(1, hide=1, wait=60))
    await until(lambda: any(bell.has_listeners() for bell in stores._bells._own.values()))
    await stores.close()
    await stores.close()
    with pytest.raises(StoreUnavailableError):
        await waiting
    for call in (
        stores.table("jobs").read("k"),
        stores.table("jobs").insert("k", {}),
        stores.blobs.facts("a"),
        stores.queue("jobs").receive(1, hide=1, wait=60),
    ):
        with pytest.raises(StoreUnavailableError):
            await call
    assert not list((data / "bells").iterdir())


async def test_other_threads_and_loops_may_use_it(stores: EmbeddedStores) -> None:
    got: list[str] = []

    async def receive_elsewhere() -> None:
        for message in await stores.queue("jobs").receive(1, hide=30, wait=10):
            got.append(message.body)
            await stores.queue("jobs").complete(message)

    thread = threading.Thread(target=lambda: asyncio.run(receive_elsewhere()))
    thread.start()
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await stores.queue("jobs").put("over there", message_id="m")
    await asyncio.to_thread(thread.join)
    assert got == ["over there"]
    assert time.monotonic() - began < 2
    await stores.queue("jobs").put("again", message_id="m")  # rings a bell whose loop is closed
    assert len(await stores.queue("jobs").receive(1, hide=30, wait=5)) == 1


async def test_a_message_whose_bell_never_rang_is_found_by_the_regular_look(
    stores: EmbeddedStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(bells.Bells, "ring", lambda _self, _queues: None)
    stores._writer._ring = stores._bells.ring
    waiting = asyncio.create_task(stores.queue("jobs").receive(1, hide=30, wait=10))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await stores.queue("jobs").put("x", message_id="m")
    assert len(await waiting) == 1
    assert time.monotonic() - began < 2


async def test_waiting_costs_next_to_nothing(stores: EmbeddedStores) -> None:
    waiting = [asyncio.create_task(stores.queue(f"jobs{n}").receive(1, hide=30, wait=1)) for n in range(8)]
    await asyncio.sleep(0.2)
    before = time.process_time()
    await asyncio.gather(*waiting)
    assert time.process_time() - before < 0.3


async def test_bells_of_dead_processes_are_cleared_away(data: Path, stores: EmbeddedStores) -> None:
    os.mkfifo(data / "bells" / "1-dead")
    await stores.queue("jobs").put("x", message_id="m")
    await stores.close()
    assert not list((data / "bells").iterdir())


async def test_a_bell_that_nobody_hears_fills_without_harm(stores: EmbeddedStores, data: Path) -> None:
    await stores.queue("other").receive(1, hide=1, wait=0.01)
    (bell,) = (data / "bells").iterdir()
    fifo = os.open(bell, os.O_WRONLY | os.O_NONBLOCK)
    os.write(fifo, bytes(1024 * 1024))
    with pytest.raises(BlockingIOError):
        os.write(fifo, b"x")
    second = await EmbeddedStores.open(data)
    await second.queue("jobs").put("x", message_id="m")
    await second.close()
    os.close(fifo)
    assert len(await stores.queue("jobs").receive(1, hide=1, wait=1)) == 1


async def test_a_stepped_wall_clock_neither_shows_nor_hides_a_message(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = await EmbeddedStores.open(data)
    queue = stores.queue("jobs")
    await queue.put("held", message_id="1")
    assert await queue.receive(1, hide=60)
    await queue.put("soon", message_id="2", delay=0.2)
    for hours in (2, -2):
        step = timedelta(hours=hours)
        monkeypatch.setattr(clock, "now", lambda step=step: datetime.now(UTC) + step)
        (counts,) = [await queue.counts()]
        assert (counts.visible or 0) + (counts.hidden or 0) == 2
        assert not [message for message in await queue.receive(2, hide=0.1) if message.body == "held"]
    (message,) = await queue.receive(1, hide=60, wait=5)
    assert message.body == "soon"
    await stores.close()


async def test_after_a_reboot_messages_are_due_when_they_would_have_been(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = await EmbeddedStores.open(data)
    await stores.queue("jobs").put("later", message_id="1", delay=100)
    await stores.queue("jobs").put("now", message_id="2", delay=20)
    await stores.close()
    up, down = clock.since_boot(), 50.0
    monkeypatch.setattr(schema, "_boot_id", lambda: "the next boot")
    monkeypatch.setattr(clock, "since_boot", lambda: time.clock_gettime(time.CLOCK_BOOTTIME) - up)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(seconds=down))
    stores = await EmbeddedStores.open(data)
    assert [message.body for message in await stores.queue("jobs").receive(2, hide=60)] == ["now"]
    assert (await stores.queue("jobs").counts()).hidden == 2
    await stores.close()


async def test_what_is_acknowledged_is_flushed_and_what_only_repeats_a_delivery_is_not(data: Path) -> None:
    """Each commit is asked for the setting under which it was made: 2 is FULL, 1 is NORMAL."""
    stores = await EmbeddedStores.open(data)
    connection = stores._writer._connection

    def setting(transaction: Transaction) -> int:
        (value,) = transaction.execute("PRAGMA synchronous").fetchone()
        return int(value)

    assert connection is not None
    assert await stores._writer.do(setting) == 2
    assert await stores._writer.do(setting, durable=False) == 1
    assert await stores._writer.do(setting) == 2
    await stores.close()


async def test_a_blob_and_its_name_are_flushed_before_they_are_acknowledged(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content before it gets its name, the directory after."""
    steps: list[str] = []
    flush, link = os.fsync, os.link

    def flushed(file: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(file).st_mode) else "content")
        flush(file)

    def linked(*arguments: Any, **options: Any) -> None:
        steps.append("name")
        link(*arguments, **options)

    stores = await EmbeddedStores.open(data)
    await stores.blobs.put("results/job/first", b"x")
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "link", linked)
    await stores.blobs.put("results/job/second", b"x")
    assert steps == ["content", "name", "directory"]
    await stores.close()
