"""Queues of one engine with tables and blobs of another, and the settings that choose them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.errors import AlreadyExistsError, LimitExceededError, StoreError, StoreUnavailableError
from rolehost.stores import NewRow, Note, Row
from rolehost.stores.combined import CombinedStores, transactions
from rolehost.stores.connect import connect
from rolehost.stores.embedded import EmbeddedStores
from rolehost.telemetry import subscribe
from rolehost.testing import Faults, FaultyStores
from support import azurite
from support.stores import receive

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="


def new_row(message: str = "{}") -> NewRow:
    return NewRow(
        table="jobs",
        key="k",
        fields={"n": 1},
        tag="queued",
        queue="work",
        message_id="k:0",
        message=lambda version: version + message,
    )


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[EmbeddedStores]:
    opened = await EmbeddedStores.open(tmp_path / "storage")
    yield opened
    await opened.close()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedStores]:
    opened = await EmbeddedStores.open(tmp_path / "broker")
    yield opened
    await opened.close()


async def test_rows_and_blobs_are_in_one_and_messages_in_the_other(
    storage: EmbeddedStores, broker: EmbeddedStores
) -> None:
    stores = CombinedStores(storage, broker)
    version = await stores.submit(new_row())
    await stores.blobs.put("inputs/a", b"x")
    assert await storage.table("jobs").read("k") == Row(key="k", version=version, tag="queued", fields={"n": 1})
    assert await broker.table("jobs").read("k") is None
    assert not await storage.queue("work").peek(1)
    (message,) = await receive(broker.queue("work"))
    assert (message.id, message.body) == ("k:0", version + "{}")
    assert not await stores.table("jobs").notes("outbox")
    assert await stores.queues() == ["work"]
    assert (await storage.blobs.facts("inputs/a")).size == 1
    with pytest.raises(AlreadyExistsError):
        await stores.submit(new_row())


async def test_a_put_that_fails_leaves_a_note_and_is_told_once(storage: EmbeddedStores, broker: EmbeddedStores) -> None:
    faults = Faults()
    faults.refuse("queue.put")
    stores = CombinedStores(storage, FaultyStores(broker, faults))
    told: list[dict[str, object]] = []
    forget = subscribe(lambda event, facts: told.append(facts) if event == "job.enqueue_deferred" else None)
    try:
        version = await stores.submit(new_row())
    finally:
        forget()
    assert await storage.table("jobs").notes("outbox") == [Note("outbox", "k")]
    assert await storage.table("jobs").write("k", version, {}, tag="running")
    assert [(facts["job"], facts["queue"]) for facts in told] == [("k", "work")]


async def test_a_message_that_is_too_large_leaves_no_row(storage: EmbeddedStores, broker: EmbeddedStores) -> None:
    stores = CombinedStores(storage, broker)
    with pytest.raises(LimitExceededError):
        await stores.submit(new_row("x" * broker.queue("work").limits.largest_message))
    assert await storage.table("jobs").read("k") is None


async def test_closing_closes_both_also_when_one_fails(storage: EmbeddedStores) -> None:
    class Broken(EmbeddedStores):
        async def close(self) -> None:
            raise StoreUnavailableError("as planned")

    with pytest.raises(StoreUnavailableError, match="as planned"):
        await CombinedStores(storage, Broken.__new__(Broken)).close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await storage.table("jobs").insert("k", {})


async def test_requests_are_counted_where_they_are_billed(storage: EmbeddedStores, tmp_path: Path) -> None:
    assert transactions(storage) == {}
    async with connect(azurite.environ(tmp_path)) as stores:
        await stores.table("jobs").read("k")
        assert transactions(stores) == {"blob": 0, "queue": 0, "table": 1}
        assert transactions(CombinedStores(stores, storage)) == {"blob": 0, "queue": 0, "table": 1}


@pytest.mark.parametrize("storage_setting", ["", "embedded", " embedded "])
@pytest.mark.parametrize("queue_setting", ["", "storage"])
async def test_without_settings_all_is_in_the_data_directory(
    tmp_path: Path, storage_setting: str, queue_setting: str
) -> None:
    settings = {
        "ROLEHOST_STORAGE": storage_setting,
        "ROLEHOST_QUEUE": queue_setting,
        "ROLEHOST_DATA": str(tmp_path / "data"),
    }
    async with connect(settings) as stores:
        assert isinstance(stores, EmbeddedStores)
    assert (tmp_path / "data" / "store.db").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"ROLEHOST_STORAGE": f"embeded;{KEY}"},
        {"ROLEHOST_STORAGE": f"AccountName=acme;AccountKey={KEY[:-3]}"},
        {"ROLEHOST_STORAGE": f"https://acme.blob.core.windows.net/?sig={KEY}"},
        {"ROLEHOST_QUEUE": f"Endpoint=nonsense;SharedAccessKeyName=n;SharedAccessKey={KEY}"},
    ],
)
async def test_a_setting_that_names_nothing_is_refused_without_its_secrets(
    settings: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(StoreError) as refused:
        async with connect({"ROLEHOST_DATA": str(tmp_path / "data"), **settings}):
            pass
    assert KEY[:10] not in str(refused.value)


async def test_one_engine_does_not_load_another(tmp_path: Path) -> None:
    """The SDKs cost half a second and 30 MB: who uses the embedded engine pays neither."""
    from asyncio import create_subprocess_exec, subprocess  # noqa: PLC0415 - the only test that starts a program

    program = (
        "import asyncio, os, sys\nfrom rolehost.stores.connect import connect\n"
        "async def main():\n    async with connect(os.environ):\n"
        "        print(sum(name.startswith('azure') for name in sys.modules))\n"
        "asyncio.run(main())"
    )
    child = await create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        env={"ROLEHOST_DATA": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        stdout=subprocess.PIPE,
    )
    output, _ = await child.communicate()
    assert output == b"0\n"
